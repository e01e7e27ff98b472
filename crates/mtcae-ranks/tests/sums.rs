//! Sums over ranks are those of one rank alone, to the bit.

use mtcae_ranks::{Deal, Error, Group, Memory, Reduction, Solo, Threads, Values, completed};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Leaves whose sum depends on the order of the additions.
fn leaves(count: usize, length: usize) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut value = || (rng.random::<f32>() - 0.5) * 10f32.powi(rng.random_range(-6..6));
    (0..count)
        .map(|_| (0..length).map(|_| value()).collect())
        .collect()
}

/// By pairs, level by level: what the sum is, without ranks or nodes.
fn by_pairs(mut level: Vec<Vec<f32>>) -> Vec<f32> {
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => a.iter().zip(b).map(|(a, b)| a + b).collect(),
                rest => rest.concat(),
            })
            .collect();
    }
    level.concat()
}

/// What one rank gets that has its share of the leaves alone.
fn of_rank(group: &dyn Group, all: &[Vec<f32>], bucket: usize) -> Result<Vec<f32>, Error> {
    let deal = Deal::new(all.len(), group.size());
    let nodes = deal.nodes(group.rank()).into_iter().map(|node| {
        assert!(deal.leaves(group.rank()).contains(&node.start));
        Values::new(by_pairs(all[node].to_vec()))
    });
    let length = all[0].len();
    let reduction = Reduction::in_buckets(length, bucket);
    let (sum, traffic) = reduction.sum(&Memory(group), deal, nodes.collect())?;
    let sent = deal.nodes(group.rank()).len();
    let (n, r) = (group.size(), group.rank());
    // Of each bucket all slices but its own, once a node; and its own slice to all others.
    let mut bytes = 0;
    for from in (0..length).step_by(bucket) {
        let l = bucket.min(length - from);
        let own = l * (r + 1) / n - l * r / n;
        bytes += 4 * ((l - own) * sent + own * (n - 1));
    }
    assert_eq!(traffic.bytes, bytes as u64);
    Ok(sum.into_vec())
}

/// As many threads as ranks.
fn on_ranks<T: Send>(size: usize, work: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let ranks: Vec<_> = Threads::new(size)
            .into_iter()
            .map(|rank| scope.spawn(|| work(&{ rank })))
            .collect();
        let ended = ranks.into_iter().map(|r| r.join().expect("no panic"));
        ended.collect()
    })
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn any_number_of_ranks_gives_the_same_sum_to_the_bit() {
    for count in [1, 2, 3, 4, 5, 6, 8, 12, 13] {
        let all = leaves(count, 103);
        let want = bits(&by_pairs(all.clone()));
        let mut chain = all[0].clone();
        for leaf in &all[1..] {
            chain.iter_mut().zip(leaf).for_each(|(a, b)| *a += b);
        }
        // Otherwise any order would do.
        assert!(count < 4 || bits(&chain) != want, "{count} leaves");
        assert_eq!(bits(&of_rank(&Solo, &all, 50).expect("a sum")), want);
        for size in 1..=5 {
            for bucket in [1, 2, 17, 50, 103, 1000] {
                for sum in on_ranks(size, |rank| of_rank(rank, &all, bucket)) {
                    let sum = sum.expect("a sum");
                    assert_eq!(bits(&sum), want, "{count} leaves, {size} ranks, {bucket}");
                }
            }
        }
    }
}

#[test]
fn leaves_are_dealt_to_neighbours_and_none_is_left_out() {
    for (leaves, ranks) in [(8, 4), (7, 4), (3, 4), (0, 2), (12, 3)] {
        let deal = Deal::new(leaves, ranks);
        let all: Vec<usize> = (0..ranks).flat_map(|r| deal.leaves(r)).collect();
        assert_eq!(all, (0..leaves).collect::<Vec<_>>());
    }
    // A power of two goes up whole: one vector a rank is sent.
    assert!((0..4).all(|r| Deal::new(16, 4).nodes(r).len() == 1));
    assert_eq!(completed(6, 0..3).len(), 2);
}

#[test]
fn what_cannot_be_added_is_an_error() {
    let deal = Deal::new(2, 1);
    let short = vec![Values::new(vec![0.0; 3])];
    let error = Reduction::new(4).sum(&Memory(&Solo), deal, short);
    let error = error.err().expect("too short");
    assert_eq!(
        error.to_string(),
        "1 vectors given for 1 nodes of 4 values among 1 ranks"
    );
    let error = Reduction::new(4).sum(&Memory(&Solo), Deal::new(0, 1), Vec::new());
    assert_eq!(
        error.err().expect("nothing").to_string(),
        "there are no leaves to add"
    );
}
