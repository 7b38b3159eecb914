//! Turns of engines whose models share a device.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What engines share so that one of them runs a step at a time, in the order in which they asked: models that run at the same time on the
/// same cores would take them from each other in the middle of products. Clones are of the same turns.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<(Mutex<Tickets>, Condvar)>);

#[derive(Debug, Default)]
struct Tickets {
    /// The number that the next one to ask gets.
    next: u64,
    /// The number whose turn it is.
    current: u64,
}

/// A turn, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits until all who asked before have had their turn.
    pub(crate) fn take(&self) -> Turn<'_> {
        let (tickets, changed) = &*self.0;
        let mut tickets = tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let own = tickets.next;
        tickets.next += 1;
        while tickets.current != own {
            tickets = changed.wait(tickets).unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (tickets, changed) = &*self.0.0;
        tickets.lock().unwrap_or_else(PoisonError::into_inner).current += 1;
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn turns_go_in_the_order_of_asking_and_a_panic_ends_its_own() {
        let turns = Turns::default();
        let (sender, order) = mpsc::channel();
        let first = turns.take();
        std::thread::scope(|scope| {
            for i in 0..3 {
                let (sender, own) = (sender.clone(), turns.clone());
                let n_before = 2 + i;
                scope.spawn(move || {
                    let work = std::panic::AssertUnwindSafe(|| {
                        let _turn = own.take();
                        sender.send(i).unwrap();
                        assert!(i != 1, "a step that panics");
                    });
                    assert_eq!(std::panic::catch_unwind(work).is_err(), i == 1);
                });
                // The next one asks after this one has.
                while turns.0.0.lock().unwrap().next < n_before {
                    std::thread::yield_now();
                }
            }
            assert!(order.try_recv().is_err(), "it is the first one's turn");
            drop(first);
        });
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
