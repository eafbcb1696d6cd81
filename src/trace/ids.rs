//! How is a number made that no other thing has?

use std::cell::Cell;

/// Numbers that do not repeat: each of the 2^64 once. Two that began at random differ from each
/// other as far as chance allows. They can be guessed, so they are names and no secrets.
#[derive(Debug)]
pub struct Ids(Cell<u64>);

impl Ids {
    /// Begins at a random place.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next number.
    pub fn draw(&self) -> u64 {
        // SplitMix64 (Steele, Lea and Flood 2014): a bijection of a counter, so no repeats here.
        let count = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(count);
        let z = (count ^ (count >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator's own test vector (Vigna's `splitmix64.c`, seed 1234567).
    #[test]
    fn numbers_are_those_of_splitmix64() {
        let ids = Ids::new(1_234_567);
        let drawn = [(); 5].map(|()| ids.draw());
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(drawn, expected);
    }
}
