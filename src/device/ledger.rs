//! What is allocated on a device, by name: the source of `plan` and of `peak_memory_bytes`.

use std::collections::BTreeMap;

use serde::Serialize;

/// Live allocations and the highest total they have reached.
#[derive(Default)]
pub struct Ledger {
    live: BTreeMap<u64, Allocation>,
    next: u64,
    total: u64,
    peak: u64,
}

/// One tensor's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Allocation {
    /// The tensor's name: a path whose first part is what it serves (`policy/weights/...`).
    pub name: String,
    /// Bytes as allocated, padding included.
    pub bytes: u64,
}

impl Ledger {
    /// Notes an allocation and returns the key that [`Ledger::remove`] takes.
    pub fn add(&mut self, name: &str, bytes: u64) -> u64 {
        let key = self.next;
        self.next += 1;
        self.live.insert(key, Allocation { name: name.to_owned(), bytes });
        self.total += bytes;
        self.peak = self.peak.max(self.total);
        key
    }

    /// Notes that an allocation was freed.
    pub fn remove(&mut self, key: u64) {
        if let Some(allocation) = self.live.remove(&key) {
            self.total -= allocation.bytes;
        }
    }

    /// Live allocations in the order they were made.
    pub fn live(&self) -> Vec<Allocation> {
        self.live.values().cloned().collect()
    }

    /// Bytes live now.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The most bytes that were live at once.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Forgets what was live at once before now.
    pub fn restart_peak(&mut self) {
        self.peak = self.total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_outlives_what_made_it() {
        let mut ledger = Ledger::default();
        let a = ledger.add("a", 10);
        let b = ledger.add("b", 20);
        ledger.remove(a);
        ledger.add("c", 5);
        ledger.remove(b);
        assert_eq!((ledger.total(), ledger.peak()), (5, 30));
        assert_eq!(ledger.live(), [Allocation { name: "c".into(), bytes: 5 }]);
        ledger.restart_peak();
        assert_eq!(ledger.peak(), 5);
    }
}
