//! The lake's place: a local folder or an S3 bucket, opened from the configuration.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::synced::SyncedLocal;
use crate::config::Lake;
use crate::record::SinkError;

/// The lake's object store and where the lake begins in it.
#[derive(Debug, Clone)]
pub struct LakeStore {
    /// The whole disk or bucket.
    root: Arc<dyn ObjectStore>,
    /// Address of the lake, ending in `/`.
    url: Url,
    /// Path of the lake below the root.
    base: Path,
    /// New folders of feeds are their owner's alone, until somebody opens them.
    governed: bool,
}

impl LakeStore {
    pub fn open(config: &Lake) -> Result<Self, SinkError> {
        match config.url.strip_prefix("s3://") {
            Some(rest) => Self::open_s3(config, rest),
            None => {
                let folder = config.url.strip_prefix("file://").unwrap_or(&config.url);
                Ok(Self { governed: config.governed, ..Self::open_local(FilePath::new(folder))? })
            }
        }
    }

    pub fn open_local(folder: &FilePath) -> Result<Self, SinkError> {
        let failed = |error: std::io::Error| {
            SinkError::lasting(format!("the lake's folder {}: {error}", folder.display()))
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        // The store's paths know no `..`.
        let folder = std::fs::canonicalize(folder).map_err(failed)?;
        let url = Url::from_directory_path(&folder)
            .map_err(|()| SinkError::lasting(format!("not a folder: {}", folder.display())))?;
        let base = Path::from_absolute_path(&folder).map_err(SinkError::lasting)?;
        Ok(Self { root: Arc::new(SyncedLocal::new()), url, base, governed: false })
    }

    fn open_s3(config: &Lake, rest: &str) -> Result<Self, SinkError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let options = config.s3.clone().unwrap_or_default();
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(RetryConfig {
                max_retries: 4,
                retry_timeout: std::time::Duration::from_secs(20),
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint).with_client_options(
                ClientOptions::new().with_allow_http(endpoint.starts_with("http://")),
            );
        }
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        for (secret, set) in [
            (&options.access_key, AmazonS3Builder::with_access_key_id as fn(_, String) -> _),
            (&options.secret_key, AmazonS3Builder::with_secret_access_key as fn(_, String) -> _),
        ] {
            if let Some(secret) = secret {
                let text = secret.read().map_err(SinkError::lasting)?;
                builder = set(builder, text.reveal().to_owned());
            }
        }
        let store = builder.build().map_err(SinkError::lasting)?;
        let url = Url::parse(&format!("{}/", config.url.trim_end_matches('/')))
            .map_err(SinkError::lasting)?;
        let base = Path::from(prefix.trim_end_matches('/'));
        Ok(Self { root: Arc::new(store), url, base, governed: false })
    }

    /// The same place over another store: for tests that break it on purpose.
    #[cfg(test)]
    pub fn over(self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        Self { root: wrap(self.root), ..self }
    }

    /// The store seen from a folder below the lake's root.
    pub fn below(&self, folder: &str) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.root.clone(), join(&self.base, folder)))
    }

    /// The Delta log of the table in `folder`.
    pub fn log_store(&self, folder: &str) -> Result<LogStoreRef, SinkError> {
        let url = self.url.join(&format!("{folder}/")).map_err(SinkError::lasting)?;
        Ok(default_logstore(self.below(folder), self.root.clone(), &url, &StorageConfig::default()))
    }

    /// Takes away a local folder that holds nothing any more; a bucket has none.
    pub fn remove_empty(&self, folder: &str) {
        if let Some(path) = self.local_folder(folder) {
            // One that holds something stays.
            drop(std::fs::remove_dir(path));
        }
    }

    /// A folder below the lake's root, as the machine knows it; a bucket has none.
    pub fn local_folder(&self, folder: &str) -> Option<PathBuf> {
        self.url.join(folder).ok()?.to_file_path().ok()
    }

    /// Whether modes of local folders follow the permission rows.
    pub fn is_governed(&self) -> bool {
        self.governed
    }

    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// A path below another; each part of `below` is a segment.
pub fn join(base: &Path, below: &str) -> Path {
    let parts = base.parts().map(|part| part.as_ref().to_owned());
    let below = below.split('/').filter(|part| !part.is_empty()).map(str::to_owned);
    Path::from_iter(parts.chain(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_beside_the_node_files_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = LakeStore::open_local(&folder.path().join("node/../lake")).unwrap();
        store.installation(uuid::Uuid::nil(), false).await.unwrap();
        assert!(folder.path().join("lake/_tidegate/installation.json").is_file());
    }
}
