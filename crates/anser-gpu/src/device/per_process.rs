//! Values of which every process has its own.

use std::sync::OnceLock;

/// A value that each process makes for itself. A forked child has a copy of its parent's, which it must not use: a lock in
/// it may have been held by a thread that the child does not have, and a driver's handles belong to the parent.
#[derive(Debug)]
pub struct PerProcess<T> {
    first: OnceLock<OfOne<T>>,
}

/// The value of one process, and those of the children forked from it.
#[derive(Debug)]
struct OfOne<T> {
    process: u32,
    value: T,
    child: OnceLock<Box<OfOne<T>>>,
}

impl<T: Default> PerProcess<T> {
    /// No process has a value yet.
    pub const fn new() -> PerProcess<T> {
        PerProcess { first: OnceLock::new() }
    }

    /// This process's value, made at its first call.
    pub fn get(&self) -> &T {
        self.get_for(std::process::id())
    }

    fn get_for(&self, process: u32) -> &T {
        let new = || OfOne { process, value: T::default(), child: OnceLock::new() };
        let mut found = self.first.get_or_init(new);
        while found.process != process {
            found = found.child.get_or_init(|| Box::new(new()));
        }
        &found.value
    }
}

impl<T: Default> Default for PerProcess<T> {
    fn default() -> PerProcess<T> {
        PerProcess::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_child_has_a_value_of_its_own_whatever_its_parent_holds() {
        let values = PerProcess::<Mutex<u32>>::new();
        let held = values.get_for(1).lock().unwrap();
        *values.get_for(2).lock().unwrap() = 2;
        *values.get_for(3).lock().unwrap() = 3;
        assert_eq!(*values.get_for(2).lock().unwrap(), 2);
        assert_eq!(*values.get_for(3).lock().unwrap(), 3);
        drop(held);
        assert_eq!(*values.get_for(1).lock().unwrap(), 0);
    }
}
