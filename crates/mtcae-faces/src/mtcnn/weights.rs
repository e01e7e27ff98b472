//! The networks' parameters from a safetensors file, under the names that
//! `fixtures/mtcnn/convert.py` gives them.

use candle_core::Result;
use mtcae_kernels::conv::{Conv, Shape};
use mtcae_nn::VarBuilder;

/// All values of the tensor `name`. With one that is no number a network would find
/// fewer faces, or none, and not say why.
fn floats(vb: &VarBuilder<'_>, shape: &[usize], name: &str) -> Result<Vec<f32>> {
    let values: Vec<f32> = vb.get(shape, name)?.flatten_all()?.to_vec1()?;
    if let Some(value) = values.iter().find(|v| !v.is_finite()) {
        candle_core::bail!(
            "{}.{name} holds {value}; weights must be finite",
            vb.prefix()
        );
    }
    Ok(values)
}

/// The convolution `name`; `prelu` follows it when given. `stride` is the number
/// of floats an input pixel takes.
pub fn conv(
    vb: &VarBuilder<'_>,
    name: &str,
    prelu: Option<&str>,
    [outputs, inputs, kernel]: [usize; 3],
    stride: usize,
) -> Result<Conv> {
    let shape = Shape {
        height: kernel,
        width: kernel,
        inputs,
        input_stride: stride,
        outputs,
    };
    let weight = floats(
        vb,
        &[outputs, inputs, kernel, kernel],
        &format!("{name}.weight"),
    )?;
    let bias = floats(vb, &[outputs], &format!("{name}.bias"))?;
    let slope = slope(vb, prelu, outputs)?;
    Ok(Conv::new(shape, &weight, &bias, slope.as_deref()))
}

fn slope(vb: &VarBuilder<'_>, prelu: Option<&str>, outputs: usize) -> Result<Option<Vec<f32>>> {
    prelu
        .map(|name| floats(vb, &[outputs], &format!("{name}.weight")))
        .transpose()
}

fn dense_shape(inputs: usize, outputs: usize) -> Shape {
    Shape {
        height: 1,
        width: 1,
        inputs,
        input_stride: inputs,
        outputs,
    }
}

/// A dense layer with PReLU over a plane of `side`² pixels of `channels`.
///
/// PyTorch flattens it as (width, height, channel); here it lies as (height,
/// width, channel), so the weights are put into that order once.
pub fn dense_of_plane(
    vb: &VarBuilder<'_>,
    name: &str,
    prelu: &str,
    side: usize,
    channels: usize,
    outputs: usize,
) -> Result<Conv> {
    let inputs = side * side * channels;
    let theirs = floats(vb, &[outputs, inputs], &format!("{name}.weight"))?;
    let mut ours = vec![0.0; theirs.len()];
    for o in 0..outputs {
        for y in 0..side {
            for x in 0..side {
                let from = o * inputs + (x * side + y) * channels;
                let to = o * inputs + (y * side + x) * channels;
                ours[to..to + channels].copy_from_slice(&theirs[from..from + channels]);
            }
        }
    }
    let bias = floats(vb, &[outputs], &format!("{name}.bias"))?;
    let slope = slope(vb, Some(prelu), outputs)?;
    Ok(Conv::new(
        dense_shape(inputs, outputs),
        &ours,
        &bias,
        slope.as_deref(),
    ))
}

/// Several linear heads of the same input as one layer, their outputs one after
/// the other. `tail` is the rest of the weights' shape: (1, 1) in P-Net, whose
/// heads are 1×1 convolutions.
pub fn heads(
    vb: &VarBuilder<'_>,
    heads: &[(&str, usize)],
    inputs: usize,
    tail: &[usize],
) -> Result<Conv> {
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for &(name, outputs) in heads {
        let shape = [&[outputs, inputs], tail].concat();
        weight.extend(floats(vb, &shape, &format!("{name}.weight"))?);
        bias.extend(floats(vb, &[outputs], &format!("{name}.bias"))?);
    }
    Ok(Conv::new(
        dense_shape(inputs, bias.len()),
        &weight,
        &bias,
        None,
    ))
}
