use std::sync::Arc;

/// A key of a layered map: 128 bits of a SHA-256, so that its bits are evenly spread.
pub(crate) type Key = [u8; 16];

/// A large sorted base that many views share, and a small sorted overlay of what changed since:
/// a change copies the overlay only, and a merge makes a new base on whatever thread has time.
#[derive(Clone)]
pub(crate) struct Layered<V> {
    base: Arc<Base<V>>,
    /// Sorted by key; `None` takes an entry of the base away.
    overlay: Arc<[(Key, Option<V>)]>,
}

/// Keys and values apart, so that a value's alignment costs nothing.
struct Base<V> {
    /// Raised by every merge, so that a late merge of an older base is recognised.
    generation: u64,
    keys: Vec<Key>,
    values: Vec<V>,
}

impl<V: Copy + PartialEq> Layered<V> {
    pub(crate) fn empty() -> Self {
        Self::from_entries(Vec::new())
    }

    /// Builds the base at once; of entries with the same key the last one stays.
    pub(crate) fn from_entries(mut entries: Vec<(Key, V)>) -> Self {
        entries.sort_by_key(|entry| entry.0);
        let (mut keys, mut values) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for (key, value) in entries {
            if keys.last() == Some(&key) {
                keys.pop();
                values.pop();
            }
            keys.push(key);
            values.push(value);
        }
        keys.shrink_to_fit();
        values.shrink_to_fit();
        Self { base: Arc::new(Base { generation: 0, keys, values }), overlay: Arc::from([]) }
    }

    pub(crate) fn find(&self, key: &Key) -> Option<V> {
        if let Ok(at) = self.overlay.binary_search_by(|entry| entry.0.cmp(key)) {
            return self.overlay.get(at).and_then(|entry| entry.1);
        }
        self.base.find(key)
    }

    /// The map with these entries set (`Some`) or taken away (`None`); later changes win.
    pub(crate) fn with(&self, changes: impl IntoIterator<Item = (Key, Option<V>)>) -> Self {
        let mut fresh: Vec<(Key, Option<V>)> = changes.into_iter().collect();
        if fresh.is_empty() {
            return self.clone();
        }
        fresh.sort_by_key(|entry| entry.0);
        let mut overlay: Vec<(Key, Option<V>)> = Vec::with_capacity(self.overlay.len() + fresh.len());
        let mut old = self.overlay.iter().copied().peekable();
        for (key, value) in fresh {
            while let Some(kept) = old.next_if(|entry| entry.0 < key) {
                overlay.push(kept);
            }
            let _replaced = old.next_if(|entry| entry.0 == key);
            if overlay.last().is_some_and(|entry| entry.0 == key) {
                overlay.pop();
            }
            overlay.push((key, value));
        }
        overlay.extend(old);
        Self { base: Arc::clone(&self.base), overlay: Arc::from(overlay) }
    }

    pub(crate) fn overlay_len(&self) -> usize {
        self.overlay.len()
    }

    /// How many entries there are, counted exactly.
    pub(crate) fn len(&self) -> usize {
        self.overlay.iter().fold(self.base.keys.len(), |count, (key, value)| {
            match (self.base.find(key).is_some(), value.is_some()) {
                (false, true) => count + 1,
                (true, false) => count - 1,
                _ => count,
            }
        })
    }

    /// The same map with an empty overlay: linear, for a thread that has time.
    pub(crate) fn merged(&self) -> Self {
        let room = self.base.keys.len() + self.overlay.len();
        let (mut keys, mut values) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut base = self.base.keys.iter().copied().zip(self.base.values.iter().copied()).peekable();
        let mut put = |key, value| {
            keys.push(key);
            values.push(value);
        };
        for &(key, value) in self.overlay.iter() {
            while let Some((kept, held)) = base.next_if(|entry| entry.0 < key) {
                put(kept, held);
            }
            let _replaced = base.next_if(|entry| entry.0 == key);
            if let Some(value) = value {
                put(key, value);
            }
        }
        base.for_each(|(key, value)| put(key, value));
        keys.shrink_to_fit();
        values.shrink_to_fit();
        let generation = self.base.generation + 1;
        Self { base: Arc::new(Base { generation, keys, values }), overlay: Arc::from([]) }
    }

    /// Takes over a merge that was made from an earlier state of this map; what changed since
    /// stays in the overlay. A merge of another base is not taken.
    pub(crate) fn rebased(&self, merged: &Self) -> Self {
        if merged.base.generation != self.base.generation + 1 {
            return self.clone();
        }
        let overlay: Vec<_> =
            self.overlay.iter().filter(|(key, value)| merged.base.find(key) != *value).copied().collect();
        Self { base: Arc::clone(&merged.base), overlay: Arc::from(overlay) }
    }

    /// Heap bytes of base and overlay.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.base.keys.capacity() * size_of::<Key>()
            + self.base.values.capacity() * size_of::<V>()
            + self.overlay.len() * size_of::<(Key, Option<V>)>()
    }
}

impl<V: Copy> Base<V> {
    /// Starts where an evenly spread key should stand and widens from there, so that a million
    /// entries cost about as many cache lines as a thousand.
    fn find(&self, key: &Key) -> Option<V> {
        let len = self.keys.len();
        let head = u64::from_be_bytes(*key.first_chunk::<8>()?);
        let guess = usize::try_from((u128::from(head) * len as u128) >> 64).ok()?;
        let (mut low, mut high, mut width) = (guess, guess, 16_usize);
        while low > 0 && self.keys.get(low).is_none_or(|found| found > key) {
            low = low.saturating_sub(width);
            width *= 2;
        }
        width = 16;
        while high < len && self.keys.get(high).is_some_and(|found| found < key) {
            high = high.saturating_add(width).min(len);
            width *= 2;
        }
        let end = high.saturating_add(1).min(len);
        let at = self.keys.get(low..end)?.binary_search(key).ok()?;
        self.values.get(low + at).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Keys that crowd at both ends of the number line and in its middle, so that the guess is often wrong.
    fn key() -> impl Strategy<Value = Key> {
        (prop_oneof![Just(0_u8), Just(0x7f), Just(0xff), any::<u8>()], 0_u8..4).prop_map(|(first, last)| {
            let mut key = [first; 16];
            key[15] = last;
            key
        })
    }

    fn changes() -> impl Strategy<Value = Vec<(Key, Option<i64>)>> {
        proptest::collection::vec((key(), proptest::option::of(0_i64..3)), 0..20)
    }

    proptest! {
        #[test]
        fn every_mix_of_changes_and_merges_agrees_with_a_map(
            base in proptest::collection::vec((key(), 0_i64..3), 0..60),
            steps in proptest::collection::vec((changes(), 0_u8..4), 0..12),
            asked in proptest::collection::vec(key(), 20),
        ) {
            let mut model: BTreeMap<Key, i64> = base.iter().copied().collect();
            let mut map = Layered::from_entries(base);
            let mut pending: Option<Layered<i64>> = None;
            for (changes, merge) in steps {
                for (key, value) in &changes {
                    match value {
                        Some(value) => model.insert(*key, *value),
                        None => model.remove(key),
                    };
                }
                if merge == 0 {
                    pending = Some(map.merged());
                }
                map = map.with(changes);
                if merge == 1 && let Some(merged) = &pending {
                    // What was merged from an older base, or taken over already, must change nothing.
                    map = map.rebased(merged);
                }
                prop_assert_eq!(map.len(), model.len());
                for key in model.keys().chain(&asked) {
                    prop_assert_eq!(map.find(key), model.get(key).copied());
                }
                for key in &asked {
                    prop_assert_eq!(map.merged().find(key), model.get(key).copied());
                }
            }
        }
    }

    #[test]
    fn an_empty_map_and_one_of_one_answer() {
        let empty = Layered::<()>::empty();
        assert_eq!(empty.find(&[0; 16]), None);
        assert_eq!(empty.find(&[0xff; 16]), None);
        for only in [[0; 16], [0x80; 16], [0xff; 16]] {
            let one = Layered::from_entries(vec![(only, 5)]);
            assert_eq!(one.find(&only), Some(5));
            for other in [[0; 16], [0x7f; 16], [0x80; 16], [0xfe; 16], [0xff; 16]] {
                assert_eq!(one.find(&other), (other == only).then_some(5));
            }
        }
    }

    #[test]
    fn a_change_shares_the_base_and_a_merge_empties_the_overlay() {
        let base = Layered::from_entries((0..100_u8).map(|n| ([n; 16], n)).collect());
        let changed = base.with([([200; 16], Some(1)), ([3; 16], None)]);
        assert!(Arc::ptr_eq(&base.base, &changed.base));
        assert_eq!((changed.overlay_len(), changed.len()), (2, 100));
        let merged = changed.merged();
        assert_eq!((merged.overlay_len(), merged.len()), (0, 100));
        assert_eq!((merged.find(&[200; 16]), merged.find(&[3; 16])), (Some(1), None));
    }

    #[test]
    fn what_changed_during_a_merge_is_kept() {
        let before = Layered::from_entries(vec![([1; 16], 1)]).with([([2; 16], Some(2))]);
        let merging = before.merged();
        let after = before.with([([3; 16], Some(3)), ([1; 16], None), ([2; 16], Some(9))]).rebased(&merging);
        assert_eq!(after.overlay_len(), 3);
        assert_eq!([1, 2, 3].map(|n| after.find(&[n; 16])), [None, Some(9), Some(3)]);
        assert_eq!(after.rebased(&merging).overlay_len(), 3, "a merge is taken over once");
    }

    #[test]
    fn a_key_that_comes_twice_keeps_its_last_value() {
        let twice = Layered::from_entries(vec![([1; 16], 1), ([0; 16], 7), ([1; 16], 2)]);
        assert_eq!((twice.find(&[1; 16]), twice.len()), (Some(2), 2));
        assert_eq!(twice.with([([1; 16], None), ([1; 16], Some(4))]).find(&[1; 16]), Some(4));
        assert_eq!(twice.with([([1; 16], Some(4)), ([1; 16], None)]).find(&[1; 16]), None);
    }
}
