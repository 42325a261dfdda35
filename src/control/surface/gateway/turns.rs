//! Turns: whoever changes who has a uid does it alone, so that of two that want it for themselves one sees the other. One
//! core, so a map of the names that are being worked on is enough.
//!
//! A turn ends when it is dropped, also with a caller that went away while waiting; then the next one in line has it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::engine::name::Name;

/// All turns that are taken, and who waits for them. Bounded by the callers there are.
#[derive(Default)]
pub struct Turns(RefCell<HashMap<Name, VecDeque<Rc<Waiter>>, RandomState>>);

#[derive(Default)]
struct Waiter {
    has_turn: Cell<bool>,
    task: Cell<Option<Waker>>,
}

/// The turn over a name, or a place in the line for it.
pub struct Turn<'a> {
    all: &'a Turns,
    name: Name,
    /// None: it was free.
    waiter: Option<Rc<Waiter>>,
}

impl Turns {
    /// Waits for the turn over a name.
    pub async fn take(&self, name: &Name) -> Turn<'_> {
        let turn = self.queue(name);
        if let Some(waiter) = &turn.waiter {
            poll_fn(|context| {
                if waiter.has_turn.get() {
                    return Poll::Ready(());
                }
                waiter.task.set(Some(context.waker().clone()));
                Poll::Pending
            })
            .await;
        }
        turn
    }

    fn queue(&self, name: &Name) -> Turn<'_> {
        let mut all = self.0.borrow_mut();
        let waiter = match all.get_mut(name) {
            Some(line) => {
                let waiter = Rc::new(Waiter::default());
                line.push_back(waiter.clone());
                Some(waiter)
            }
            None => {
                all.insert(name.clone(), VecDeque::new());
                None
            }
        };
        Turn {
            all: self,
            name: name.clone(),
            waiter,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.borrow_mut();
        let Some(line) = all.get_mut(&self.name) else { return };
        if let Some(waiter) = self.waiter.as_ref().filter(|waiter| !waiter.has_turn.get()) {
            return line.retain(|other| !Rc::ptr_eq(other, waiter));
        }
        match line.pop_front() {
            Some(next) => {
                next.has_turn.set(true);
                if let Some(task) = next.task.take() {
                    task.wake();
                }
            }
            None => drop(all.remove(&self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::engine::name::Space;

    fn name(text: &str) -> Name {
        Name::new(Space::single(4), text.as_bytes())
    }

    #[test]
    fn one_after_the_other_in_the_order_of_asking() {
        let (turns, mut context) = (Turns::default(), Context::from_waker(Waker::noop()));
        let (one, other) = (name("u"), name("v"));
        let Poll::Ready(first) = pin!(turns.take(&one)).poll(&mut context) else {
            panic!("free")
        };
        let Poll::Ready(apart) = pin!(turns.take(&other)).poll(&mut context) else {
            panic!("another name")
        };
        let (mut second, mut third) = (pin!(turns.take(&one)), pin!(turns.take(&one)));
        assert!(second.as_mut().poll(&mut context).is_pending() && third.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(third.as_mut().poll(&mut context).is_pending(), "not its turn");
        let Poll::Ready(second) = second.as_mut().poll(&mut context) else {
            panic!("its turn")
        };
        drop(second);
        assert!(third.as_mut().poll(&mut context).is_ready());
        drop(apart);
    }

    #[test]
    fn who_goes_away_while_waiting_holds_up_nobody() {
        let (turns, mut context) = (Turns::default(), Context::from_waker(Waker::noop()));
        let one = name("u");
        let Poll::Ready(first) = pin!(turns.take(&one)).poll(&mut context) else {
            panic!("free")
        };
        let mut third = Box::pin(turns.take(&one));
        {
            let mut second = Box::pin(turns.take(&one));
            assert!(second.as_mut().poll(&mut context).is_pending() && third.as_mut().poll(&mut context).is_pending());
        }
        // One that was given its turn and never looked.
        let mut fourth = Box::pin(turns.take(&one));
        assert!(fourth.as_mut().poll(&mut context).is_pending());
        drop(first);
        drop(third);
        assert!(fourth.as_mut().poll(&mut context).is_ready());
        drop(fourth);
        assert!(turns.0.borrow().is_empty());
    }
}
