//! Files of releases that are built alike, MAE-DFER's and SVFAP's: VideoMAE's names and
//! pixels, classifiers of crops to faces, and no `config.json`.

use std::marker::PhantomData;

use mtcae_nn::weights::Source;

use crate::classifier::{Classifier, TWO_CLIPS};
use crate::error::Error;
use crate::json::Fields;
use crate::preprocessing::Preprocessing;
use crate::published::{Foreign, Form, Overrides, Part, Published, Spelling, Told, is_of};
use crate::seam::Config;

/// What one release has of its own.
pub(crate) trait Release: Send + Sync + 'static {
    /// The name of its spelling.
    const NAME: &'static str;
    /// Whose it is, in words.
    const WHOSE: &'static str;
    /// The tensor by which a file shows; what stands before it is the prefix.
    const MARK: &'static str;
    /// What stands beside the encoder in fine-tuned and pre-trained files.
    const NEIGHBOURS: &'static [&'static str];

    /// What a file holds for a tensor of the model, where that is another than the rule;
    /// names are without the prefix.
    fn parts(canonical: &str) -> Option<Vec<Part>>;

    /// The encoder, by the shapes of the tensors.
    fn sizes(told: &Told<'_>, prefix: &str, overrides: &Overrides) -> Result<Sizing, Error>;
}

/// What the tensors of a file tell.
pub(crate) struct Sizing {
    /// The encoder for a decoder.
    pub encoder: Config,
    /// The same with the features that its classifier averages.
    pub classified: Config,
    /// ε of all LayerNorms.
    pub eps: f64,
}

/// The files of a release.
pub(crate) struct Released<R>(PhantomData<R>);

impl<R> Released<R> {
    pub const NEW: Self = Self(PhantomData);
}

/// One of them.
struct File<R> {
    prefix: String,
    release: PhantomData<R>,
}

impl<R: Release> Published for Released<R> {
    fn find(&self, _: &dyn Source, names: &[String]) -> Vec<Box<dyn Foreign>> {
        let prefixes = names.iter().filter_map(|name| name.strip_suffix(R::MARK));
        let whole = prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
        let file = |prefix: &str| File::<R> {
            prefix: prefix.to_owned(),
            release: PhantomData,
        };
        whole
            .map(|prefix| Box::new(file(prefix)) as Box<dyn Foreign>)
            .collect()
    }

    fn marks(&self) -> String {
        format!("an encoder of {} ({})", R::WHOSE, R::MARK)
    }
}

impl<R: Release> Spelling for File<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn preprocessing(&self) -> Option<Preprocessing> {
        Some(Preprocessing::imagenet())
    }

    /// As the model's, but for the kernel of tubes, and biases of queries that stand beside
    /// their matrix.
    fn parts(&self, canonical: &str) -> Vec<Part> {
        let parts = R::parts(canonical).unwrap_or_else(|| {
            match (canonical, canonical.strip_suffix(".q.bias")) {
                ("patch_embed.proj.weight", _) => Part::whole(canonical.to_owned(), Form::Kernel),
                (_, Some(attention)) => Part::plain(format!("{attention}.q_bias")),
                (_, None) => Part::plain(canonical.to_owned()),
            }
        });
        let below = |part: Part| Part {
            names: part
                .names
                .iter()
                .map(|name| format!("{}{name}", self.prefix))
                .collect(),
            ..part
        };
        parts.into_iter().map(below).collect()
    }

    fn is_neighbour(&self, name: &str) -> bool {
        is_of(R::NEIGHBOURS, &self.prefix, name)
    }

    fn left_out(&self, _: &dyn Source, _: &Config) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

impl<R: Release> Foreign for File<R> {
    fn read(
        &self,
        fields: Option<&Fields>,
        source: &dyn Source,
        overrides: &Overrides,
    ) -> Result<(Config, Option<Classifier>), Error> {
        // One that lies beside them is of something else.
        if let Some(fields) = fields {
            let reason = format!(
                "this config is of another model: the weights beside it are {}'s, whose files \
                 have none",
                R::WHOSE
            );
            return Err(fields.fault("model_type", reason));
        }
        let spelling: &dyn Spelling = self;
        let told = R::sizes(&Told { source, spelling }, &self.prefix, overrides)?;
        let below = |module| format!("{}{module}", self.prefix);
        let (layer, norm) = (below("head"), below("fc_norm"));
        let classifier = Classifier::find(source, &told.classified, layer, norm, told.eps)?;
        let classifier = classifier.map(|classifier| Classifier {
            of_faces: true,
            protocol: Some(TWO_CLIPS),
            ..classifier
        });
        Ok((told.encoder, classifier))
    }
}
