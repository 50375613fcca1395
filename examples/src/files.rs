//! The files below one directory, by the path of a URL. No path leads out of the directory, not through `..` nor through a symbolic link.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// A directory to serve.
#[derive(Clone)]
pub(crate) struct Files {
    /// Canonical, so that it is a prefix of all that lies within.
    root: PathBuf,
}

/// A file that was found.
pub(crate) struct Found {
    pub(crate) file: File,
    pub(crate) length: u64,
    pub(crate) content_type: &'static str,
}

impl Files {
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let shown = root.display();
        let root = root.canonicalize().with_context(|| format!("cannot serve {shown}; give a directory that exists with --root"))?;
        ensure!(root.is_dir(), "cannot serve {shown}: it is not a directory");
        Ok(Self { root })
    }

    /// Opens the file that `url_path` (percent-encoded, query allowed) names; `index.html` for a directory.
    ///
    /// Errors are those of the file system: `NotFound` also for all that is not a file within the root.
    pub(crate) fn open(&self, url_path: &str) -> io::Result<Found> {
        let path = url_path.split(['?', '#']).next().unwrap_or_default();
        let decoded = percent_decode(path).ok_or(io::ErrorKind::NotFound)?;
        let mut path = self.root.join(decoded.trim_start_matches('/')).canonicalize()?;
        if path.is_dir() {
            path = path.join("index.html").canonicalize()?;
        }
        if !path.starts_with(&self.root) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Before it is opened: opening a named pipe would block the thread until somebody writes to it.
        if !path.metadata()?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Found { file, length: metadata.len(), content_type: content_type(&path) })
    }
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        _ => "application/octet-stream",
    }
}

/// `None` for a broken escape, a NUL, or what is no UTF-8.
fn percent_decode(path: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            (digit(bytes.next()?)? * 16 + digit(bytes.next()?)?) as u8
        } else {
            byte
        };
        decoded.push(byte);
    }
    String::from_utf8(decoded).ok().filter(|path| !path.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn read(files: &Files, path: &str) -> Option<String> {
        let mut text = String::new();
        files.open(path).ok()?.file.read_to_string(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn files_are_found_and_nothing_outside_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("sub dir")).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("a.txt"), "a").unwrap();
        std::fs::write(root.join("sub dir/index.html"), "index").unwrap();
        std::os::unix::fs::symlink(directory.path().join("secret"), root.join("link")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap();
        assert!(pipe.success());
        let files = Files::new(&root).unwrap();

        assert_eq!(read(&files, "/a.txt?query").as_deref(), Some("a"));
        assert_eq!(read(&files, "/%61.txt").as_deref(), Some("a"));
        assert_eq!(read(&files, "/sub%20dir/").as_deref(), Some("index"));
        assert_eq!(read(&files, "/sub dir/../a.txt").as_deref(), Some("a"));
        for path in ["/../secret", "/%2e%2e/secret", "/link", "/pipe", "/none", "/", "/%", "/%zz", "/a.txt%00", "//../secret"] {
            assert_eq!(read(&files, path), None, "{path}");
        }
    }

    #[test]
    fn a_missing_root_is_named() {
        let error = format!("{:#}", Files::new(Path::new("/no/such/directory")).err().unwrap());
        assert!(error.contains("/no/such/directory") && error.contains("--root"), "{error}");
    }
}
