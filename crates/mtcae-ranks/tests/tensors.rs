//! Vectors as Candle's tensors are added as those in memory are: the same buckets, the same
//! order. What carries them on GPUs is another.
#![cfg(feature = "candle")]

use candle_core::{Device, Tensor};
use mtcae_ranks::{ByMemory, Deal, Group, Memory, Reduction, Tensors, Threads, Values};

fn leaf(number: usize, length: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7919 + number * 104_729) % 10_007) as f32 * 1e-3 - 4.2;
    (0..length).map(value).collect()
}

#[test]
fn tensors_and_memory_give_the_same_sum_to_the_bit() {
    let (length, bucket, count) = (1003, 128, 6);
    for size in 1..=4 {
        let sums = std::thread::scope(|scope| {
            let ranks: Vec<_> = Threads::new(size)
                .into_iter()
                .map(|rank| {
                    scope.spawn(move || {
                        let deal = Deal::new(count, size);
                        let nodes: Vec<Vec<f32>> = deal
                            .nodes(rank.rank())
                            .into_iter()
                            .map(|node| {
                                let mut sum = leaf(node.start, length);
                                for n in node.start + 1..node.end {
                                    let more = leaf(n, length);
                                    sum.iter_mut().zip(more).for_each(|(a, b)| *a += b);
                                }
                                sum
                            })
                            .collect();
                        let reduction = Reduction::in_buckets(length, bucket);
                        let given = nodes.iter().cloned().map(Values::new).collect();
                        let (memory, cost) =
                            reduction.sum(&Memory(&rank), deal, given).expect("a sum");
                        let cpu = Device::Cpu;
                        let given = nodes.into_iter().map(|n| Tensor::new(n, &cpu));
                        let given = given.collect::<Result<_, _>>().expect("vectors");
                        let carrier = Tensors(ByMemory::new(&rank, &cpu));
                        let (tensor, same) = reduction.sum(&carrier, deal, given).expect("a sum");
                        assert_eq!(cost, same);
                        (memory.into_vec(), tensor.to_vec1::<f32>().expect("values"))
                    })
                })
                .collect();
            let ended = ranks.into_iter().map(|r| r.join().expect("no panic"));
            ended.collect::<Vec<_>>()
        });
        for (memory, tensor) in &sums {
            assert_eq!(memory, tensor, "{size} ranks");
            assert_eq!(memory, &sums[0].0, "{size} ranks");
        }
    }
}
