//! In which order weights are uploaded, and where to when the device is to hold only some of them.

use std::ops::Range;

/// The endless list of uploads. Each is called a *use*, since it brings one buffer of weights to the device for the steps that use
/// it next: first every buffer in the plan's order, then, pass after pass, those that are streamed. Streamed buffers share the slots of a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// Bytes of each buffer.
    sizes: Vec<u64>,
    /// Those that are streamed: none, or all from one on.
    streamed: Range<usize>,
    /// Slots of the ring, fewer than there are streamed buffers.
    n_slots: usize,
}

/// Where a buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// In memory of its own.
    Resident,
    /// In a slot of the ring, with others in turn.
    Slot(usize),
}

impl Order {
    /// Everything stays.
    pub(crate) fn resident(sizes: Vec<u64>) -> Order {
        Order { streamed: sizes.len()..sizes.len(), sizes, n_slots: 0 }
    }

    /// As much as `budget` bytes hold stays, from the first buffer on, and the rest is streamed. `n_together`: how many
    /// buffers in a row a dispatch may need at once. `None` if the budget is below [`Order::least`].
    pub(crate) fn within(budget: u64, sizes: Vec<u64>, n_together: usize) -> Option<Order> {
        if sizes.iter().sum::<u64>() <= budget {
            return Some(Order::resident(sizes));
        }
        let slot = slot_n_bytes(&sizes);
        // One group is computed, one is uploaded, and one is ready; without memory for that, two do.
        let fitting = |n_groups: usize| Some(n_groups * n_together).filter(|&n| n as u64 * slot <= budget);
        let n_slots = fitting(3).or(fitting(2))?;
        let mut rest = budget - n_slots as u64 * slot;
        let fits = |&&size: &&u64| {
            let fits = size <= rest;
            rest -= if fits { size } else { 0 };
            fits
        };
        let n_resident = sizes.iter().take_while(fits).count();
        // The slots of a ring are fewer than the buffers in it: otherwise all would fit.
        let n_resident = n_resident.min(sizes.len().saturating_sub(n_slots + 1));
        Some(Order { streamed: n_resident..sizes.len(), n_slots, sizes })
    }

    /// The smallest budget for buffers of `sizes`, of which a dispatch may need `n_together`.
    pub(crate) fn least(sizes: &[u64], n_together: usize) -> u64 {
        sizes.iter().sum::<u64>().min(2 * n_together as u64 * slot_n_bytes(sizes))
    }

    /// Buffers of weights.
    pub(crate) fn n_buffers(&self) -> usize {
        self.sizes.len()
    }

    /// Whether some are streamed.
    pub(crate) fn streams(&self) -> bool {
        !self.streamed.is_empty()
    }

    /// Bytes of the slots of the ring, each.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u64> + use<> {
        std::iter::repeat_n(slot_n_bytes(&self.sizes[self.streamed.clone()]), self.n_slots)
    }

    /// Bytes of a buffer.
    pub(crate) fn size(&self, buffer: usize) -> u64 {
        self.sizes[buffer]
    }

    /// Bytes that stay.
    pub(crate) fn resident_n_bytes(&self) -> u64 {
        self.sizes[..self.streamed.start].iter().sum()
    }

    /// Bytes on the device.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.resident_n_bytes() + self.slots().sum::<u64>()
    }

    /// Bytes of all buffers.
    pub(crate) fn total_n_bytes(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// Where a buffer lies.
    pub(crate) fn placement(&self, buffer: usize) -> Placement {
        match self.streamed.contains(&buffer) {
            true => Placement::Slot((buffer - self.streamed.start) % self.n_slots),
            false => Placement::Resident,
        }
    }
}

/// Uses, which need threads.
#[cfg(not(target_arch = "wasm32"))]
impl Order {
    /// How many buffers, from the first, can be on the device before one is read.
    pub(crate) fn n_at_once(&self) -> usize {
        self.streamed.start + self.n_slots
    }

    /// The buffer of a use; `None` after the last one, if nothing is streamed.
    pub(crate) fn buffer(&self, use_: usize) -> Option<usize> {
        match use_.checked_sub(self.n_buffers()) {
            None => Some(use_),
            Some(n) if self.streams() => Some(self.streamed.start + n % self.streamed.len()),
            Some(_) => None,
        }
    }

    /// How many uses must be uploaded so that the first `n_buffers` buffers can be read in pass number `pass`.
    pub(crate) fn n_uses(&self, pass: usize, n_buffers: usize) -> usize {
        match pass.checked_sub(1) {
            None => n_buffers,
            Some(earlier) => {
                let of_this_pass = n_buffers.saturating_sub(self.streamed.start).min(self.streamed.len());
                self.n_buffers() + earlier * self.streamed.len() + of_this_pass
            }
        }
    }

    /// How many buffers can be read in pass number `pass` when the first `n_uses` uses are uploaded; the reverse of
    /// [`Order::n_uses`].
    pub(crate) fn n_readable(&self, pass: usize, n_uses: usize) -> usize {
        match pass.checked_sub(1) {
            None => n_uses.min(self.n_buffers()),
            Some(earlier) => {
                let before = self.n_buffers() + earlier * self.streamed.len();
                (self.streamed.start + n_uses.saturating_sub(before)).min(self.n_buffers())
            }
        }
    }

    /// The earlier use that must be over before this one's data can replace its.
    pub(crate) fn replaces(&self, use_: usize) -> Option<usize> {
        let Placement::Slot(slot) = self.placement(self.buffer(use_)?) else { return None };
        (0..use_)
            .rev()
            .take(2 * self.streamed.len())
            .find(|&earlier| self.buffer(earlier).is_some_and(|buffer| self.placement(buffer) == Placement::Slot(slot)))
    }
}

/// Every slot holds the largest buffer.
fn slot_n_bytes(sizes: &[u64]) -> u64 {
    sizes.iter().copied().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays() {
        let sizes = vec![10, 20, 20, 20, 15];
        assert!(!Order::within(85, sizes.clone(), 1).unwrap().streams());
        let order = Order::within(84, sizes.clone(), 1).unwrap();
        assert_eq!((order.streamed.clone(), order.n_slots), (1..5, 3), "{order:?}");
        assert_eq!(order.n_bytes(), 70);
        let order = Order::within(69, sizes.clone(), 1).unwrap();
        assert_eq!((order.streamed.clone(), order.n_slots, order.n_bytes()), (0..5, 3, 60), "{order:?}");
        let order = Order::within(40, sizes.clone(), 1).unwrap();
        assert_eq!((order.streamed.clone(), order.n_slots, order.n_bytes()), (0..5, 2, 40), "{order:?}");
        assert_eq!(Order::least(&sizes, 1), 40);
        assert_eq!(Order::within(39, sizes, 1), None);
    }

    /// Plays all uses of several passes on a ring: a buffer's data is there from its upload until its slot is replaced.
    #[test]
    fn every_buffer_is_there_when_its_pass_reads_it() {
        for n_buffers in 1..9 {
            let sizes: Vec<u64> = (0..n_buffers as u64).map(|i| 10 + i % 3).collect();
            let total = sizes.iter().sum::<u64>();
            for budget in Order::least(&sizes, 1)..=total {
                let order = Order::within(budget, sizes.clone(), 1).unwrap();
                assert!(order.n_bytes() <= budget, "{order:?} in {budget}");
                let mut slots = vec![None; order.n_slots];
                let mut resident = vec![false; n_buffers];
                let (mut n_uploaded, mut over) = (0, vec![]);
                for pass in 0..4 {
                    for buffer in 0..n_buffers {
                        // As far as uploads may run ahead of what was read.
                        while let Some(next) = order.buffer(n_uploaded) {
                            match order.placement(next) {
                                Placement::Resident => resident[next] = true,
                                Placement::Slot(slot) => {
                                    let replaced = order.replaces(n_uploaded);
                                    assert_eq!(replaced.map(|u| order.buffer(u)), slots[slot].map(Some));
                                    if replaced.is_some_and(|earlier| !over.contains(&earlier)) {
                                        break;
                                    }
                                    slots[slot] = Some(next);
                                }
                            }
                            n_uploaded += 1;
                        }
                        let needed = order.n_uses(pass, buffer + 1);
                        assert!(needed <= n_uploaded, "{order:?}: pass {pass} buffer {buffer}");
                        assert!(order.n_readable(pass, needed) > buffer);
                        match order.placement(buffer) {
                            Placement::Resident => assert!(resident[buffer]),
                            Placement::Slot(slot) => {
                                assert_eq!(slots[slot], Some(buffer), "{order:?}: pass {pass}");
                                over.push(needed - 1);
                            }
                        }
                    }
                }
            }
        }
    }
}
