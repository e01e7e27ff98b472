//! Downloading through hf-hub.

use mtcae_core::files::FileError;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::{HubName, Progress};
use crate::checkpoint::Files;
use crate::{Checkpoint, Error, Families, HubFault, Overrides};

/// A hub and the cache of what was downloaded from it.
///
/// The cache is the one that Hugging Face's Python tools use. What it holds is
/// used as it is, without asking whether the hub has something newer.
pub struct Hub {
    cache: Cache,
    endpoint: Option<String>,
}

impl Hub {
    /// The public hub, or that of `HF_ENDPOINT`, and the cache below `HF_HOME`
    /// or `~/.cache/huggingface`.
    ///
    /// # Errors
    /// [`Error::File`] when there is neither `HF_HOME` nor a home folder.
    pub fn from_env() -> Result<Self, Error> {
        // hf-hub panics without a home folder.
        if std::env::var_os("HF_HOME").is_none() && std::env::home_dir().is_none() {
            let reason = "there is no home folder; set HF_HOME";
            return Err(FileError::new("~/.cache/huggingface", reason).into());
        }
        Ok(Self {
            cache: Cache::from_env(),
            endpoint: std::env::var("HF_ENDPOINT").ok(),
        })
    }

    /// A hub at an address, with a cache folder of its own.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: Cache::new(cache.into()),
            endpoint: Some(endpoint.into()),
        }
    }

    /// Downloads what is not in the cache yet and opens the checkpoint.
    ///
    /// # Errors
    /// As [`crate::open_named`].
    pub fn open(
        &self,
        name: &HubName,
        overrides: &Overrides,
        families: &Families,
        progress: &mut Progress<'_>,
    ) -> Result<Checkpoint, Error> {
        self.fetch(name, progress)?.open(overrides, families)
    }

    pub(super) fn fetch(
        &self,
        name: &HubName,
        progress: &mut Progress<'_>,
    ) -> Result<Files, Error> {
        let failed = |fault| Error::Hub {
            name: name.to_string(),
            fault,
        };
        let mut builder = ApiBuilder::from_cache(self.cache.clone()).with_progress(false);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let api = builder
            .build()
            .map_err(|e| failed(fault(e, "config.json")))?;
        let mut fetch = Fetch {
            cache: &self.cache,
            api,
            model: &name.model,
            revision: &name.revision,
            commit: None,
            progress,
        };
        // Every model has this one: its absence means that there is no model.
        let config = fetch.file("config.json").map_err(failed)?;
        // All other files are of the same commit.
        fetch.commit = commit_of(&config);
        let names = ["model.safetensors", "pytorch_model.bin"];
        let mut weights = names.iter().find_map(|name| fetch.cached(name));
        let preprocessor = match fetch.optional("preprocessor_config.json") {
            // Some models have none; one that is cached must open offline.
            Err(HubFault::Offline { .. }) if weights.is_some() => None,
            other => other.map_err(failed)?,
        };
        for name in names {
            if weights.is_none() {
                weights = fetch.optional(name).map_err(failed)?;
            }
        }
        match weights {
            Some(weights) => Ok(Files {
                weights,
                config: Some(config),
                preprocessor,
            }),
            None => Err(failed(HubFault::NoWeights)),
        }
    }
}

/// The commit of a file, which is the name of its folder in the cache.
fn commit_of(file: &Path) -> Option<String> {
    Some(file.parent()?.file_name()?.to_str()?.to_owned())
}

struct Fetch<'a, 'b> {
    cache: &'a Cache,
    api: Api,
    model: &'a str,
    revision: &'a str,
    commit: Option<String>,
    progress: &'a mut Progress<'b>,
}

impl Fetch<'_, '_> {
    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.model.to_owned(), RepoType::Model, revision.to_owned())
    }

    /// A file in the cache, of the commit that the others are of.
    fn cached(&self, file: &str) -> Option<PathBuf> {
        let path = self.cache.repo(self.repo(self.revision)).get(file)?;
        let of_commit = self.commit.is_none() || commit_of(&path) == self.commit;
        of_commit.then_some(path)
    }

    fn file(&mut self, file: &str) -> Result<PathBuf, HubFault> {
        if let Some(path) = self.cached(file) {
            return Ok(path);
        }
        let revision = self.commit.as_deref().unwrap_or(self.revision);
        let repo: ApiRepo = self.api.repo(self.repo(revision));
        let mut total = 0;
        let bar = Bar {
            file,
            arrived: 0,
            total: &mut total,
            progress: &mut *self.progress,
        };
        let path = repo
            .download_with_progress(file, bar)
            .map_err(|error| fault(error, file))?;
        // hf-hub does not compare lengths when the server closes early.
        let length = path.metadata().map_or(0, |m| m.len());
        if length != total {
            for path in path.canonicalize().into_iter().chain([path]) {
                // A file that stays is refused again the next time.
                drop(std::fs::remove_file(path));
            }
            return Err(HubFault::Transfer {
                file: file.to_owned(),
                reason: format!("{length} of {total} bytes arrived"),
            });
        }
        Ok(path)
    }

    /// A file that a model may lack.
    fn optional(&mut self, file: &str) -> Result<Option<PathBuf>, HubFault> {
        match self.file(file) {
            Ok(path) => Ok(Some(path)),
            Err(HubFault::Unknown { status: 404, .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

/// hf-hub's reports as calls of ours.
struct Bar<'a, 'b> {
    file: &'a str,
    arrived: u64,
    total: &'a mut u64,
    progress: &'a mut Progress<'b>,
}

impl hf_hub::api::Progress for Bar<'_, '_> {
    fn init(&mut self, size: usize, _: &str) {
        // Called once more when the transfer begins.
        self.arrived = 0;
        *self.total = size as u64;
    }

    fn update(&mut self, size: usize) {
        self.arrived += size as u64;
        (self.progress)(self.file, self.arrived, *self.total);
    }

    fn finish(&mut self) {}
}

/// What an error of hf-hub means to somebody who asked for `file`.
fn fault(error: ApiError, file: &str) -> HubFault {
    let file = file.to_owned();
    match error {
        ApiError::RequestError(request) => match *request {
            // Names that do not exist are answered like private ones, by 401.
            ureq::Error::StatusCode(status @ (401 | 403 | 404)) => {
                HubFault::Unknown { file, status }
            }
            unreachable @ (ureq::Error::Io(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Timeout(_)
            | ureq::Error::ConnectProxyFailed(_)) => HubFault::Offline {
                file,
                reason: unreachable.to_string(),
            },
            other => HubFault::Transfer {
                file,
                reason: other.to_string(),
            },
        },
        other => HubFault::Transfer {
            file,
            reason: other.to_string(),
        },
    }
}
