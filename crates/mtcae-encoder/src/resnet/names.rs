//! Files of torchvision (`resnet.py`, `video/resnet.py`) and of 3D-ResNets-PyTorch, which has
//! torchvision's names of pictures for volumes.

use mtcae_nn::weights::Source;

use super::config::{Block, Over, ResNetConfig};
use crate::classifier::Classifier;
use crate::error::Error;
use crate::json::Fields;
use crate::preprocessing::Preprocessing;
use crate::published::{Foreign, Overrides, Part, Published, Spelling, Told};
use crate::seam::Config;

/// The tensors by which a file shows; what stands before them is the prefix.
const MARK: &str = "layer1.0.conv1.weight";
const MARK_OF_R3D: &str = "layer1.0.conv1.0.weight";

/// The classifier beside the encoder.
const CLASSIFIER: &str = "fc";
/// What PyTorch counts and nothing here reads.
const COUNTER: &str = ".num_batches_tracked";

/// The family's published files.
pub(crate) struct Spellings;

/// Whose a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// torchvision's networks of pictures.
    Pictures,
    /// torchvision's R3D.
    R3d,
    /// 3D-ResNets-PyTorch's.
    Volumes,
}

struct File {
    prefix: String,
    whose: Whose,
}

impl Published for Spellings {
    fn find(&self, source: &dyn Source, names: &[String]) -> Vec<Box<dyn Foreign>> {
        let file = |name: &String| {
            let of_r3d = name.strip_suffix(MARK_OF_R3D);
            let prefix = of_r3d.or_else(|| name.strip_suffix(MARK))?;
            let rank = source.shape(name)?.len();
            let whose = match (of_r3d, rank) {
                (Some(_), _) => Whose::R3d,
                (None, 5) => Whose::Volumes,
                (None, _) => Whose::Pictures,
            };
            let whole = prefix.is_empty() || prefix.ends_with('.');
            whole.then(|| File {
                prefix: prefix.to_owned(),
                whose,
            })
        };
        let files = names.iter().filter_map(file);
        files
            .map(|file| Box::new(file) as Box<dyn Foreign>)
            .collect()
    }

    fn marks(&self) -> String {
        format!("a residual network of torchvision or 3D-ResNets-PyTorch ({MARK}, {MARK_OF_R3D})")
    }
}

/// R3D's name of a tensor: norms are the second part of what convolutions are the first of.
fn of_r3d(canonical: &str) -> String {
    let Some((layer, tensor)) = canonical.rsplit_once('.') else {
        return canonical.to_owned();
    };
    match layer.rsplit_once('.') {
        None if layer == "conv1" => format!("stem.0.{tensor}"),
        None if layer == "bn1" => format!("stem.1.{tensor}"),
        Some((block, part)) if part.starts_with("conv") => format!("{block}.{part}.0.{tensor}"),
        Some((block, part)) if part.starts_with("bn") => {
            format!("{block}.conv{}.1.{tensor}", &part["bn".len()..])
        }
        _ => canonical.to_owned(),
    }
}

impl Spelling for File {
    fn name(&self) -> &'static str {
        match self.whose {
            Whose::Pictures => "torchvision-resnet",
            Whose::R3d => "torchvision-r3d",
            Whose::Volumes => "3d-resnets",
        }
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Those of 3D-ResNets-PyTorch were trained on pixels of several kinds.
    fn preprocessing(&self) -> Option<Preprocessing> {
        match self.whose {
            Whose::Pictures => Some(Preprocessing::imagenet()),
            Whose::R3d => Some(Preprocessing {
                mean: [0.432_16, 0.394_666, 0.376_45],
                std: [0.228_03, 0.221_45, 0.216_989],
                ..Preprocessing::plain()
            }),
            Whose::Volumes => None,
        }
    }

    fn parts(&self, name: &str) -> Vec<Part> {
        let name = match self.whose {
            Whose::R3d => of_r3d(name),
            _ => name.to_owned(),
        };
        Part::plain(format!("{}{name}", self.prefix))
    }

    fn is_neighbour(&self, name: &str) -> bool {
        let below = name.strip_prefix(&self.prefix);
        below.is_some_and(|name| {
            name.strip_prefix(CLASSIFIER)
                .is_some_and(|rest| rest.starts_with('.'))
        })
    }

    fn left_out(&self, source: &dyn Source, _: &Config) -> Result<Vec<String>, Error> {
        let names = source.names().into_iter();
        Ok(names
            .filter(|name| name.starts_with(&self.prefix) && name.ends_with(COUNTER))
            .collect())
    }
}

impl Foreign for File {
    fn read(
        &self,
        fields: Option<&Fields>,
        source: &dyn Source,
        overrides: &Overrides,
    ) -> Result<(Config, Option<Classifier>), Error> {
        if let Some(fields) = fields {
            let reason = "this config is of another model: the weights beside it are a residual \
                          network's, whose files have none";
            return Err(fields.fault("model_type", reason));
        }
        let config = self.sizes(source)?;
        let origin = source.origin();
        let config = overrides.apply(&config, &origin)?;
        config.check(&origin)?;
        let eps = config.eps;
        let config = Config::from(config);
        let below = |module: &str| format!("{}{module}", self.prefix);
        // There is no LayerNorm of this name.
        let (layer, norm) = (below(CLASSIFIER), below("fc_norm"));
        let classifier = Classifier::find(source, &config, layer, norm, eps)?;
        Ok((config, classifier))
    }
}

impl File {
    /// The network, by the shapes of its tensors.
    fn sizes(&self, source: &dyn Source) -> Result<ResNetConfig, Error> {
        let told = Told {
            source,
            spelling: self,
        };
        let base = match self.whose {
            Whose::Pictures => ResNetConfig::resnet18(),
            Whose::R3d => ResNetConfig::r3d18(),
            Whose::Volumes => ResNetConfig::resnext50_3d(),
        };
        // (outputs, inputs, kernel) of a convolution.
        let kernel = |name: &str, field: &str| {
            let (shown, shape) = told.needs(name, field)?;
            match shape[..] {
                [outputs, inputs, _, _] if base.over == Over::Frames => Ok([outputs, inputs, 1]),
                [outputs, inputs, t, _, _] if base.over == Over::Volumes => {
                    Ok([outputs, inputs, t])
                }
                _ => {
                    let reason = format!("{shown} of shape {shape:?} is no kernel of its kind");
                    Err(told.fault(field, reason))
                }
            }
        };
        let [stem_width, channels, stem_frames] = kernel("conv1.weight", "stem_width")?;
        let [width, ..] = kernel("layer1.0.conv1.weight", "width")?;
        let mut depths = [0; 4];
        for (layer, depth) in depths.iter_mut().enumerate() {
            *depth = told.depth(&format!("{}layer{}.", self.prefix, layer + 1))?;
        }
        let bottleneck = told.find("layer1.0.conv3.weight").is_some();
        let (block, expansion, groups) = match bottleneck {
            false => (Block::Basic, 1, 1),
            true => {
                let [outputs, ..] = kernel("layer1.0.conv3.weight", "expansion")?;
                let [_, of_group, _] = kernel("layer1.0.conv2.weight", "groups")?;
                let whole = |n: usize, by: usize| by > 0 && n.is_multiple_of(by);
                if !whole(outputs, width) || !whole(width, of_group) {
                    let reason =
                        format!("{outputs} outputs of {width} channels in groups of {of_group}");
                    return Err(told.fault("groups", reason));
                }
                (Block::Bottleneck, outputs / width, width / of_group)
            }
        };
        Ok(ResNetConfig {
            channels,
            stem_frames,
            stem_width,
            block,
            depths,
            width,
            expansion,
            groups,
            ..base
        })
    }
}

#[cfg(test)]
mod tests {
    use super::of_r3d;

    #[test]
    fn names_of_r3d_are_torchvisions() {
        for (ours, theirs) in [
            ("conv1.weight", "stem.0.weight"),
            ("bn1.running_var", "stem.1.running_var"),
            ("layer2.1.conv2.weight", "layer2.1.conv2.0.weight"),
            ("layer2.1.bn1.bias", "layer2.1.conv1.1.bias"),
            (
                "layer3.0.downsample.0.weight",
                "layer3.0.downsample.0.weight",
            ),
        ] {
            assert_eq!(of_r3d(ours), theirs);
        }
    }
}
