//! Which processors this process may use, and which of them its threads are kept on.
//!
//! The mask is inherited (taskset, cpusets, CPUAffinity) and need not begin at 0; a control group may grant less time than
//! the mask has processors. Read once, at the start. Caller: `server.rs`.

use super::sys;

/// What this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processors {
    /// Numbers of the mask, ascending; empty if the kernel does not say.
    mask: Vec<usize>,
    /// Threads that can run at one time: the size of the mask, or less by the quota of the control group (version 1 or 2).
    pub count: usize,
}

impl Processors {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            mask: sys::processor_mask(),
            // Looks at the mask and at the quotas of the group and those above it, which it rounds down.
            count: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// The processors for `threads` pinned threads, the k-th for the k-th; `None`: the threads must not be pinned. A quota
    /// smaller than the mask makes pinned threads wait on their processor while others are idle, and two threads on one
    /// processor would only wait for each other.
    pub fn pinned(&self, threads: usize) -> Option<&[usize]> {
        let has_quota = self.count < self.mask.len();
        self.mask.get(..threads).filter(|_| !has_quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_pinned_inside_the_mask_and_not_under_a_quota() {
        let mask = vec![2, 5, 64];
        let all = Processors {
            mask: mask.clone(),
            count: 3,
        };
        assert_eq!(all.pinned(2), Some(&[2, 5][..]));
        assert_eq!(all.pinned(3), Some(&[2, 5, 64][..]));
        assert_eq!(all.pinned(4), None);
        let quota = Processors { mask, count: 2 };
        assert_eq!(quota.pinned(1), None);
        let unknown = Processors {
            mask: Vec::new(),
            count: 4,
        };
        assert_eq!(unknown.pinned(1), None);
    }

    #[test]
    fn the_mask_of_this_process_is_read() {
        let own = Processors::of_process();
        assert!(
            !own.mask.is_empty() && own.mask.is_sorted() && own.count <= own.mask.len(),
            "{own:?}"
        );
    }
}
