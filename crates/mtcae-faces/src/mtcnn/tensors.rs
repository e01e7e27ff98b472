//! The three networks as operations over tensors, for a GPU: whole pyramid levels and
//! all crops of a batch at once. On the CPU the same is laid out for its caches, in
//! [`pnet`](super::pnet) and [`refine`](super::refine).

use candle_core::{Device, Result, Tensor};
use mtcae_kernels::area::Crop;
use mtcae_kernels::conv::{Conv, Shape};
use mtcae_nn::ops;

use super::networks::Networks;
use super::pnet;
use super::refine::{self, Outputs, Refiner};

/// Bytes that P-Net's planes may take at a time.
const MEMORY: usize = 1 << 29;

/// A convolution or a dense layer, with PReLU where it has one.
struct Layer {
    shape: Shape,
    parameters: Tensor,
}

impl Layer {
    fn new(conv: &Conv, device: &Device) -> Result<Self> {
        let shape = conv.shape();
        let rows = shape.taps() + 2;
        Ok(Self {
            shape,
            parameters: Tensor::from_vec(conv.columns(), (rows, shape.output_stride()), device)?,
        })
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv_prelu(x, &self.parameters, self.shape)
    }
}

enum Step {
    Conv(Layer),
    Pool(usize),
}

/// R-Net or O-Net.
pub struct Crops {
    side: usize,
    steps: Vec<Step>,
    /// The dense layer and the heads.
    dense: [Layer; 2],
}

impl Crops {
    fn new(network: &Refiner, device: &Device) -> Result<Self> {
        let step = |step: &refine::Step| {
            Ok(match step {
                refine::Step::Conv(conv) => Step::Conv(Layer::new(conv, device)?),
                refine::Step::Pool(kernel, _) => Step::Pool(*kernel),
            })
        };
        Ok(Self {
            side: network.side(),
            steps: network.steps.iter().map(step).collect::<Result<_>>()?,
            dense: [
                Layer::new(&network.dense, device)?,
                Layer::new(&network.heads, device)?,
            ],
        })
    }

    /// The outputs for crops of pictures (T, H, W, 3).
    pub fn run(&self, pictures: &Tensor, crops: &[Crop]) -> Result<Vec<Outputs>> {
        if crops.is_empty() {
            return Ok(Vec::new());
        }
        let mut x = ops::area_resample(pictures, crops, (self.side, self.side))?;
        for step in &self.steps {
            x = match step {
                Step::Conv(layer) => layer.run(&x)?,
                Step::Pool(kernel) => ops::max_pool(&x, *kernel)?,
            };
        }
        x = x.reshape((crops.len(), 1, 1, ()))?;
        for layer in &self.dense {
            x = layer.run(&x)?;
        }
        let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
        Ok(values.as_chunks().0.to_vec())
    }
}

/// The networks' parameters on a device.
pub struct Tensors {
    device: Device,
    pnet: [Layer; 4],
    pub rnet: Crops,
    pub onet: Crops,
}

impl Tensors {
    /// Puts the networks on a device.
    pub fn new(networks: &Networks, device: &Device) -> Result<Self> {
        let layer = |conv| Layer::new(conv, device);
        let [conv1, conv2, conv3, heads] = &networks.pnet.layers;
        Ok(Self {
            device: device.clone(),
            pnet: [layer(conv1)?, layer(conv2)?, layer(conv3)?, layer(heads)?],
            rnet: Crops::new(&networks.rnet, device)?,
            onet: Crops::new(&networks.onet, device)?,
        })
    }

    /// Pictures (T, H, W, 3) on the device.
    pub fn upload(&self, data: &[u8], [count, height, width]: [usize; 3]) -> Result<Tensor> {
        Tensor::from_slice(data, (count, height, width, 3), &self.device)
    }

    /// P-Net over a level of `to` = (width, height) ≥ 12×12 pixels of all pictures (T, H,
    /// W, 3). `sink(picture, y, x, v)` gets the two logits and the four box offsets of
    /// every output, row by row.
    pub fn propose(
        &self,
        pictures: &Tensor,
        to: (usize, usize),
        mut sink: impl FnMut(usize, usize, usize, [f32; 6]),
    ) -> Result<()> {
        let (count, height, width, _) = pictures.dims4()?;
        let crops: Vec<Crop> = (0..count)
            .map(|picture| Crop {
                picture,
                x: 0,
                y: 0,
                width,
                height,
            })
            .collect();
        // The level itself, conv1 and what is pooled of it: the largest that live at once.
        let bytes = to.0 * to.1 * 4 * (3 + 16 + 4);
        let columns = pnet::output(to.0);
        for crops in crops.chunks((MEMORY / bytes).max(1)) {
            let mut x = ops::area_resample(pictures, crops, to)?;
            for (i, layer) in self.pnet.iter().enumerate() {
                x = layer.run(&x)?;
                if i == 0 {
                    x = ops::max_pool(&x, 2)?;
                }
            }
            // What is not needed does not cross the bus.
            let values: Vec<f32> = x.narrow(3, 0, 6)?.flatten_all()?.to_vec1()?;
            let (values, _) = values.as_chunks::<6>();
            for (values, crop) in values.chunks(values.len() / crops.len()).zip(crops) {
                for (i, v) in values.iter().enumerate() {
                    sink(crop.picture, i / columns, i % columns, *v);
                }
            }
        }
        Ok(())
    }
}
