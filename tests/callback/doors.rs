//! `control::callback`: the hooks of several doors share nothing.

use rainbow_server::engine::command::CallbackFailure;
use rainbow_server::engine::hook::{Event, HookDoor};

use crate::schedule::{Bench, Door, MESSAGE, hanging, healthy, narrow};
use crate::{on_both_drivers, pause};

const SECOND: HookDoor = HookDoor(1);

#[test]
fn a_hanging_door_delays_no_other_not_even_at_the_same_server() {
    on_both_drivers(async || {
        let (hangs, release) = hanging();
        let server = healthy();
        let (slow, fast) = (hangs.url("/"), server.url("/"));
        let doors = vec![Door::to([&fast, &slow, &fast]), Door::to([&fast, &fast, &fast])];
        let bench = Bench::of(doors, narrow(2, 100));
        for token in 0..50 {
            bench.submit(MESSAGE, token);
            bench.submit(SECOND.on(Event::Message), token + 100);
        }
        bench.until_done(50).await;
        assert!(bench.tokens().iter().all(|&token| token >= 100));
        let counts = |hook| bench.callbacks.counts(hook);
        assert_eq!((counts(MESSAGE).in_flight, counts(MESSAGE).queued), (2, 48));
        let second = counts(SECOND.on(Event::Message));
        assert_eq!((second.submitted, second.success, second.queued), (50, 50, 0));
        drop(release);
        bench.until_done(100).await;
    });
}

#[test]
fn close_callbacks_of_one_door_never_push_out_those_of_another() {
    on_both_drivers(async || {
        let nobody = "http://127.0.0.1:1/";
        let doors = vec![Door::to(["x", "x", nobody]), Door::to(["x", "x", nobody])];
        let bench = Bench::of(doors, narrow(1, 5));
        let second = SECOND.on(Event::Close);
        for token in 0..3 {
            bench.submit(second, token);
        }
        while bench.callbacks.counts(second).retried < 3 {
            pause(5).await;
        }
        for token in 100..110 {
            bench.submit(crate::schedule::CLOSE, token);
        }
        while bench.failures().len() < 5 {
            pause(5).await;
        }
        let gone = bench.failures();
        assert!(
            gone.iter()
                .all(|(token, why)| *token >= 100 && *why == CallbackFailure::Overloaded),
            "{gone:?}"
        );
        assert_eq!(bench.callbacks.counts(second).expired, 0);
        assert_eq!(bench.callbacks.pending(), 8);
    });
}

#[test]
fn a_door_that_does_not_exist_is_told_so() {
    on_both_drivers(async || {
        let bench = Bench::of(vec![Door::to(["x", "x", "x"])], narrow(1, 1));
        bench.submit(SECOND.on(Event::Message), 7);
        assert_eq!(bench.failures(), [(7, CallbackFailure::Unresolved)]);
        assert_eq!(bench.callbacks.pending(), 0);
    });
}
