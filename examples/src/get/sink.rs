//! Where a body goes: standard output, or a file that takes its name when it is complete.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use url::Url;

use super::Arguments;

/// Where a body goes; it is counted and hashed on the way.
pub(super) struct Sink {
    target: Target,
    hasher: blake3::Hasher,
    bytes: u64,
}

enum Target {
    File(Saving),
    Stdout,
    Nothing,
}

impl Sink {
    pub(super) fn open(arguments: &Arguments, url: &Url) -> Result<Self> {
        let target = match &arguments.output {
            Some(path) if arguments.urls.len() > 1 => Target::File(Saving::create(&path.join(file_name(url)))?),
            Some(path) if path.is_dir() => Target::File(Saving::create(&path.join(file_name(url)))?),
            Some(path) => Target::File(Saving::create(path)?),
            None if arguments.json => Target::Nothing,
            None => Target::Stdout,
        };
        Ok(Self { target, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    /// Whether nothing has been written.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn write(&mut self, piece: &[u8], bar: &ProgressBar) -> Result<()> {
        match &mut self.target {
            Target::File(saving) => saving.write(piece)?,
            Target::Stdout => io::stdout().write_all(piece).context("cannot write to standard output")?,
            Target::Nothing => {}
        }
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        bar.inc(piece.len() as u64);
        Ok(())
    }

    /// Ends the body; only a `wanted` one stays as a file.
    pub(super) fn finish(self, wanted: bool) -> Result<(u64, String)> {
        match self.target {
            Target::File(saving) if wanted => saving.keep()?,
            Target::Stdout => io::stdout().flush().context("cannot write to standard output")?,
            Target::File(_) | Target::Nothing => {}
        }
        Ok((self.bytes, self.hasher.finalize().to_hex().to_string()))
    }
}

/// A file that takes its name when it is complete; dropped before, it is removed.
struct Saving {
    file: File,
    path: PathBuf,
    /// Where the bytes are until then; `None` for what is there and no file, such as `/dev/null` or a pipe, which is written at once.
    partial: Option<PathBuf>,
}

impl Saving {
    fn create(path: &Path) -> Result<Self> {
        // Through a symbolic link, to the file that it names.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let is_special = path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        let partial = (!is_special).then(|| {
            let mut name = path.as_os_str().to_owned();
            // Two programs that fetch the same file do not write into each other's.
            name.push(format!(".{}.part", std::process::id()));
            PathBuf::from(name)
        });
        let create = || {
            if path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            File::create(partial.as_deref().unwrap_or(path))
        };
        let file = create().with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { file, path: path.to_owned(), partial })
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).with_context(|| format!("cannot write to {}", self.path.display()))
    }

    fn keep(mut self) -> Result<()> {
        if let Some(partial) = &self.partial {
            std::fs::rename(partial, &self.path).with_context(|| format!("cannot name {} {}", partial.display(), self.path.display()))?;
            self.partial = None;
        }
        Ok(())
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Nothing more can be done about one that stays.
            let _ = std::fs::remove_file(partial);
        }
    }
}

/// The last part of the URL's path; a URL's own escapes keep it from being a path.
pub(super) fn file_name(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    match last {
        "" | "." | ".." => "index.html".to_owned(),
        name => name.to_owned(),
    }
}
