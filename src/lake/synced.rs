//! A local store that syncs: object_store itself never does, and a commit that a power cut can take
//! back is no commit.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result,
};

/// [`LocalFileSystem`], but a put returns only when the file and its folders are on disk.
#[derive(Debug)]
pub struct SyncedLocal {
    inner: LocalFileSystem,
}

impl SyncedLocal {
    pub fn new() -> Self {
        Self { inner: LocalFileSystem::new() }
    }
}

impl fmt::Display for SyncedLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SyncedLocal")
    }
}

#[async_trait]
impl ObjectStore for SyncedLocal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotSupported {
                    source: "a local disk has no conditional update".into(),
                });
            }
        };
        let path = self.inner.path_to_filesystem(location)?;
        let name = location.to_string();
        let written = tokio::task::spawn_blocking(move || write_synced(&path, &payload, create));
        match written.await {
            Ok(Ok(())) => Ok(PutResult { e_tag: None, version: None }),
            Ok(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::AlreadyExists { path: name, source: error.into() })
            }
            Ok(Err(error)) => Err(Error::Generic { store: "local", source: error.into() }),
            Err(error) => Err(Error::Generic { store: "local", source: error.into() }),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        if !matches!(options.target_mode, RenameTargetMode::Overwrite) {
            return self.inner.rename_opts(from, to, options).await;
        }
        let name = from.to_string();
        let (from, to) = (self.inner.path_to_filesystem(from)?, self.inner.path_to_filesystem(to)?);
        match tokio::task::spawn_blocking(move || rename_synced(&from, &to)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::NotFound { path: name, source: error.into() })
            }
            Ok(Err(error)) => Err(Error::Generic { store: "local", source: error.into() }),
            Err(error) => Err(Error::Generic { store: "local", source: error.into() }),
        }
    }
}

fn write_synced(path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file needs a folder"))?;
    make_folders(folder)?;
    // The store's listing leaves out names of this form, so a crash here shows nothing to anybody.
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!("#{}", uuid::Uuid::new_v4().as_u128()));
    let staged = PathBuf::from(staged);
    let outcome = write_whole(&staged, payload).and_then(|()| {
        if create { fs::hard_link(&staged, path) } else { fs::rename(&staged, path) }
    });
    if create || outcome.is_err() {
        drop(fs::remove_file(&staged));
    }
    outcome?;
    File::open(folder)?.sync_all()
}

fn rename_synced(from: &FilePath, to: &FilePath) -> io::Result<()> {
    // Asked first: nothing is to be made for a file that is not there.
    fs::metadata(from)?;
    let folder = to.parent().ok_or_else(|| io::Error::other("a file needs a folder"))?;
    make_folders(folder)?;
    fs::rename(from, to)?;
    File::open(folder)?.sync_all()?;
    match from.parent() {
        Some(above) => File::open(above)?.sync_all(),
        None => Ok(()),
    }
}

fn write_whole(path: &FilePath, payload: &PutPayload) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    for chunk in payload {
        file.write_all(chunk)?;
    }
    file.sync_all()
}

/// Makes the folders that are missing and syncs each into the one above it.
fn make_folders(folder: &FilePath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folders(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    #[tokio::test]
    async fn one_of_many_creates_wins_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(SyncedLocal::new());
        let path = Path::from_absolute_path(folder.path().join("a/b/0.json")).unwrap();
        let writers = (0..8).map(|writer: u8| {
            let (store, path) = (store.clone(), path.clone());
            tokio::spawn(async move {
                let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                store.put_opts(&path, vec![writer].into(), create).await
            })
        });
        let outcomes = futures::future::join_all(writers).await;
        let won: Vec<usize> = (0..8).filter(|at| outcomes[*at].as_ref().unwrap().is_ok()).collect();
        assert_eq!(won.len(), 1);
        let content = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(usize::from(content[0]), won[0]);
        assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1);
    }
}
