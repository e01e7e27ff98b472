//! The three networks together.

use mtcae_nn::weights::{Source, load_strict};

use super::pnet::PNet;
use super::refine::Refiner;
use crate::Error;

/// P-Net, R-Net and O-Net.
pub struct Networks {
    pub pnet: PNet,
    pub rnet: Refiner,
    pub onet: Refiner,
}

impl Networks {
    /// Loads them from a source that has their tensors and no others.
    pub fn load(source: &dyn Source) -> Result<Self, Error> {
        load_strict(source, &candle_core::Device::Cpu, |vb| {
            // One after the other without `?` between them, so that all faults
            // of a file are found before any is reported.
            let pnet = PNet::new(&vb.pp("pnet"));
            let rnet = Refiner::rnet(&vb.pp("rnet"));
            let onet = Refiner::onet(&vb.pp("onet"));
            Ok(Self {
                pnet: pnet?,
                rnet: rnet?,
                onet: onet?,
            })
        })
    }
}

/// Probability of the second of two classes.
pub fn probability(logits: [f32; 2]) -> f32 {
    let [a, b] = logits;
    let largest = a.max(b);
    let (a, b) = ((a - largest).exp(), (b - largest).exp());
    b / (a + b)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use mtcae_testing::{Fixture, assert_close};

    use super::super::detector::embedded;
    use super::super::pnet;
    use super::*;

    /// (N, C, H, W) → values as (N, H, W, C).
    fn channels_last(t: &Tensor) -> Vec<f32> {
        t.permute((0, 2, 3, 1))
            .and_then(|t| t.contiguous()?.flatten_all()?.to_vec1())
            .unwrap()
    }

    fn tensor(values: Vec<f32>, shape: &[usize]) -> Tensor {
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn pnet_equals_pytorch() {
        let nets = Networks::load(&embedded().unwrap()).unwrap();
        let fixture = Fixture::load("mtcnn/nets.safetensors");
        for (h, w) in [(12, 12), (13, 14), (57, 90), (40, 71)] {
            let name = |part: &str| format!("pnet.{h}x{w}.{part}");
            let input = fixture.get(&name("input"));
            let n = input.dims()[0];
            let pixels = channels_last(input);
            let (oh, ow) = (pnet::output(h), pnet::output(w));
            let mut scores = vec![f32::NAN; n * 2 * oh * ow];
            let mut boxes = vec![f32::NAN; n * 4 * oh * ow];
            let mut scratch = pnet::Scratch::default();
            for (i, image) in pixels.chunks_exact(h * w * 3).enumerate() {
                // Tiles that do not divide the output.
                for y in (0..oh).step_by(7) {
                    for x in (0..ow).step_by(11) {
                        let columns = x..(x + 11).min(ow);
                        let read = pnet::input_columns(&columns, w);
                        nets.pnet.tile(
                            (h, w),
                            (y..(y + 7).min(oh), columns),
                            f32::NEG_INFINITY,
                            &mut scratch,
                            |y, row, pitch| {
                                let from = &image[y * w * 3..][read.start * 3..read.end * 3];
                                for (i, &v) in from.iter().enumerate() {
                                    row[i % 3 * pitch + i / 3] = v;
                                }
                            },
                            |y, x, v| {
                                let at = |c: usize, of: usize| ((i * of + c) * oh + y) * ow + x;
                                let p = probability([v[0], v[1]]);
                                scores[at(0, 2)] = 1.0 - p;
                                scores[at(1, 2)] = p;
                                for c in 0..4 {
                                    boxes[at(c, 4)] = v[2 + c];
                                }
                            },
                        );
                    }
                }
            }
            let score = tensor(scores, &[n, 2, oh, ow]);
            assert_close("score", &score, fixture.get(&name("score")), 1e-5);
            let bbox = tensor(boxes, &[n, 4, oh, ow]);
            assert_close("box", &bbox, fixture.get(&name("box")), 1e-5);
        }
    }

    #[test]
    fn rnet_and_onet_equal_pytorch() {
        let nets = Networks::load(&embedded().unwrap()).unwrap();
        let fixture = Fixture::load("mtcnn/nets.safetensors");
        for (net, name) in [(&nets.rnet, "rnet.24x24"), (&nets.onet, "onet.48x48")] {
            let input = fixture.get(&format!("{name}.input"));
            let (n, pixels) = (input.dims()[0], channels_last(input));
            let out = net.run(n, |i, crop| {
                crop.copy_from_slice(&pixels[i * crop.len()..][..crop.len()]);
            });
            let part = |range: std::ops::Range<usize>| {
                let values = out.iter().flat_map(|o| o[range.clone()].to_vec()).collect();
                tensor(values, &[n, range.len()])
            };
            let score = out
                .iter()
                .map(|o| probability([o[0], o[1]]))
                .flat_map(|p| [1.0 - p, p])
                .collect();
            let expect = |what: &str| fixture.get(&format!("{name}.{what}"));
            assert_close(name, &tensor(score, &[n, 2]), expect("score"), 1e-5);
            assert_close(name, &part(2..6), expect("box"), 1e-5);
            if net.side() == 48 {
                assert_close(name, &part(6..16), expect("landmarks"), 1e-5);
            }
        }
    }
}
