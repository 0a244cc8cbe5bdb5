//! Moves the marked words of a row together, eight at a time where the processor can.

/// Bytes of a word.
pub(super) const WORD: usize = 4;

/// Puts words of `row` that `marks` has bits for into `room`, as long as that has place for eight
/// more; returns how many. What comes after them there is overwritten with anything.
pub(super) fn compact(row: &[u8], marks: &[u8], room: &mut [u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has both.
        return unsafe { compact_with_avx2(row, marks, room) };
    }
    let _ = (row, marks, room);
    0
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn compact_with_avx2(row: &[u8], marks: &[u8], room: &mut [u8]) -> usize {
    use std::arch::x86_64::{
        __m256i, _mm256_loadu_si256, _mm256_permutevar8x32_epi32, _mm256_storeu_si256,
    };

    const BLOCK: usize = size_of::<__m256i>();
    let mut done = 0;
    for (block, &marks) in row.as_chunks::<BLOCK>().0.iter().zip(marks) {
        let Some(to) = room.get_mut(done * WORD..).and_then(|room| room.first_chunk_mut::<BLOCK>())
        else {
            break;
        };
        let order = &ORDERS[marks as usize];
        // SAFETY: all three are arrays of a block's size, and need no alignment.
        unsafe {
            let order = _mm256_loadu_si256(order.as_ptr().cast());
            let block = _mm256_loadu_si256(block.as_ptr().cast());
            let together = _mm256_permutevar8x32_epi32(block, order);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), together);
        }
        done += marks.count_ones() as usize;
    }
    done
}

/// Per byte of marks, the positions that it marks; then zeros.
#[cfg(target_arch = "x86_64")]
static ORDERS: [[u32; 8]; 256] = {
    let mut orders = [[0; 8]; 256];
    let mut marks = 0;
    while marks < orders.len() {
        let (mut at, mut count) = (0, 0);
        while at < 8 {
            if marks >> at & 1 == 1 {
                orders[marks][count] = at;
                count += 1;
            }
            at += 1;
        }
        marks += 1;
    }
    orders
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_words_come_first() {
        let row: Vec<u8> = (0..67 * WORD).map(|at| at as u8).collect();
        let words = row.as_chunks::<WORD>().0;
        for seed in 0..256_usize {
            let marks: Vec<u8> = (0..9).map(|at| (seed * (at + 1)) as u8).collect();
            let is_marked = |at: &usize| marks[at / 8] >> (at % 8) & 1 == 1;
            let marked: Vec<_> = (0..67).filter(is_marked).map(|at| words[at]).collect();
            for room in [0, 20, 32, 200, 300] {
                let mut room = vec![0; room];
                let done = compact(&row, &marks, &mut room);
                assert_eq!(room[..done * WORD], *marked[..done].as_flattened());
            }
        }
    }
}
