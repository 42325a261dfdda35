//! Calls of one connection that have begun and whose answers are still to come, oldest first. Answers leave in the order of
//! the calls, whichever is ready first.
//!
//! Only calls that say they may ([`surface::Whole::may_overlap`](crate::control::surface::Whole::may_overlap)) are begun
//! before the ones ahead of them are answered; any other call waits until nothing is under way, and holds up what follows.
//! So a caller that waits for its answers notices nothing, and one that does not wait still has its calls to one name in
//! order: each takes effect, by one message into one queue, when it is begun here.
//!
//! Bound: [`CALLS_UNDER_WAY_MAX`]; beyond it the connection begins no call and reads nothing until the oldest is answered.
//! Everything under way had been received before the first of it was waited for: the connection waits for all answers before
//! it reads on. So the bodies of these calls are bounded by what one read leaves in its buffer. Caller: `http.rs`.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::limits::CALLS_UNDER_WAY_MAX;

/// Calls that are being answered, each with what is needed to write its answer.
pub struct Pipeline<A, C> {
    calls: VecDeque<(Progress<A>, C)>,
}

enum Progress<A> {
    Answered(A),
    Waiting(Pin<Box<dyn Future<Output = A>>>),
}

impl<A> Progress<A> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Progress::Waiting(future) = self {
            match future.as_mut().poll(context) {
                Poll::Ready(answer) => *self = Progress::Answered(answer),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

impl<A, C> Default for Pipeline<A, C> {
    fn default() -> Self {
        Self { calls: VecDeque::new() }
    }
}

impl<A, C> Pipeline<A, C> {
    /// Nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// As much is under way as may be.
    pub fn is_full(&self) -> bool {
        self.calls.len() >= CALLS_UNDER_WAY_MAX
    }

    /// Begins a call: what it does in its first step is done when this returns.
    pub async fn begin(&mut self, call: impl Future<Output = A> + 'static, belongings: C) {
        let mut progress = Progress::Waiting(Box::pin(call));
        let begin = |context: &mut Context<'_>| Poll::Ready(progress.poll(context).is_ready());
        poll_fn(begin).await;
        self.calls.push_back((progress, belongings));
    }

    /// The oldest call, if it is answered.
    pub async fn pop_answered(&mut self) -> Option<(A, C)> {
        let (progress, _) = self.calls.front_mut()?;
        let is_answered = poll_fn(|context| Poll::Ready(progress.poll(context).is_ready())).await;
        if is_answered { self.pop() } else { None }
    }

    /// Waits until the oldest call is answered, if there is one.
    pub async fn answered(&mut self) {
        if let Some((progress, _)) = self.calls.front_mut() {
            poll_fn(|context| progress.poll(context)).await;
        }
    }

    fn pop(&mut self) -> Option<(A, C)> {
        match self.calls.pop_front()? {
            (Progress::Answered(answer), belongings) => Some((answer, belongings)),
            (Progress::Waiting(_), _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::future::pending;
    use std::rc::Rc;
    use std::task::Waker;

    /// Runs a future that does not wait for anything.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    /// Answers under the numbers of calls.
    type Desk = Rc<RefCell<[Option<u32>; 3]>>;

    async fn call(desk: Desk, number: usize) -> u32 {
        poll_fn(|_| desk.borrow_mut()[number].take().map_or(Poll::Pending, Poll::Ready)).await
    }

    #[test]
    fn answers_come_in_the_order_of_the_calls() {
        let desk = Desk::default();
        let mut pipeline = Pipeline::default();
        for number in 0..3 {
            now(pipeline.begin(call(desk.clone(), number), number));
        }
        assert_eq!(now(pipeline.pop_answered()), None);
        *desk.borrow_mut() = [None, Some(11), Some(12)];
        assert_eq!(now(pipeline.pop_answered()), None, "the first is not answered");
        desk.borrow_mut()[0] = Some(10);
        now(pipeline.answered());
        let answers: Vec<_> = std::iter::from_fn(|| now(pipeline.pop_answered())).collect();
        assert_eq!(answers, [(10, 0), (11, 1), (12, 2)]);
        assert!(pipeline.is_empty());
        now(pipeline.answered());
    }

    #[test]
    fn a_call_takes_effect_when_it_is_begun() {
        let (effects, mut pipeline) = (Rc::new(RefCell::new(Vec::new())), Pipeline::default());
        for number in 0..CALLS_UNDER_WAY_MAX {
            assert!(!pipeline.is_full());
            let noted = effects.clone();
            let call = async move {
                noted.borrow_mut().push(number);
                pending::<u32>().await
            };
            now(pipeline.begin(call, ()));
            assert_eq!(effects.borrow().last(), Some(&number));
        }
        assert!(pipeline.is_full());
        assert_eq!(now(pipeline.pop_answered()), None);
    }
}
