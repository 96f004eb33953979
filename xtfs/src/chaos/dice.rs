//! Random numbers from a seed: the same on every machine and with every version of a library, so that a seed in a
//! report still names the same schedule next year.

/// SplitMix64.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 up to, not including, `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    /// From `low` up to, not including, `high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// Every card comes once before one comes twice: also a short run meets everything.
#[derive(Debug)]
pub(super) struct Deck<T> {
    cards: Vec<T>,
    next: usize,
}

impl<T: Clone> Deck<T> {
    pub(super) fn new(cards: Vec<T>) -> Self {
        Self { next: cards.len(), cards }
    }

    /// `None` when there are no cards at all.
    pub(super) fn draw(&mut self, dice: &mut Dice) -> Option<T> {
        if self.next >= self.cards.len() {
            dice.shuffle(&mut self.cards);
            self.next = 0;
        }
        self.next += 1;
        self.cards.get(self.next - 1).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_one_sequence_for_ever() {
        let mut dice = Dice::new(1);
        assert_eq!([dice.next(), dice.next()], [0x910a_2dec_8902_5cc1, 0xbeeb_8da1_658e_ec67]);
    }

    #[test]
    fn a_deck_deals_every_card_before_it_repeats() {
        let (mut deck, mut dice) = (Deck::new(vec![1, 2, 3]), Dice::new(7));
        for _ in 0..5 {
            let mut dealt: Vec<i32> = (0..3).filter_map(|_| deck.draw(&mut dice)).collect();
            dealt.sort_unstable();
            assert_eq!(dealt, [1, 2, 3]);
        }
    }
}
