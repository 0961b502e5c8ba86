//! Deterministic draws. Written out (splitmix64) because the streams must not change with a
//! version of the `rand` crate: figures and tests name seeds.

/// Mixes numbers into one that looks random; order matters.
pub(super) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
        scramble(state.wrapping_mul(0xd134_2543_de82_ef95) ^ *part)
    })
}

/// The finaliser of splitmix64.
fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number in `0..1` with 53 random bits.
pub(super) fn unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1u64 << 53) as f64
}

/// A stream of draws.
pub(super) struct Dice(u64);

impl Dice {
    /// The stream that belongs to these numbers.
    pub(super) fn new(parts: &[u64]) -> Self {
        Self(mix(parts))
    }

    /// The next draw.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        unit(self.next()) < p
    }

    /// A number below `n` (0 if `n` is 0).
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or(0)
    }

    /// An element; `None` of an empty slice.
    pub(super) fn of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).unwrap_or(0))
    }

    /// A value by weight; `None` only if all weights are 0.
    pub(super) fn weighted<T: Copy>(&mut self, items: &[(T, u32)]) -> Option<T> {
        let total: u64 = items.iter().map(|(_, w)| u64::from(*w)).sum();
        let mut at = self.below(total);
        for (item, weight) in items {
            match at.checked_sub(u64::from(*weight)) {
                Some(rest) => at = rest,
                None => return Some(*item),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_their_weights() {
        let mut dice = Dice::new(&[1]);
        let mut hits = [0u32; 3];
        for _ in 0..10_000 {
            hits[dice.weighted(&[(0usize, 1), (1, 0), (2, 3)]).unwrap()] += 1;
        }
        assert_eq!(hits[1], 0);
        assert!((2_200..2_800).contains(&hits[0]), "{hits:?}");
        assert_eq!(Dice::new(&[1]).weighted::<u8>(&[]), None);
    }

    #[test]
    fn a_stream_is_fixed_by_its_numbers() {
        assert_eq!(Dice::new(&[7, 8]).next(), Dice::new(&[7, 8]).next());
        assert_ne!(Dice::new(&[7, 8]).next(), Dice::new(&[8, 7]).next());
        assert!((0..1_000).all(|i| (0.0..1.0).contains(&unit(mix(&[i])))));
    }
}
