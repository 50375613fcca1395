//! Go's program, built where Go is installed.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

const SOURCE: &str = include_str!("../../go/main.go");

/// A built program, in a folder that ends with this.
pub(super) struct Program {
    folder: PathBuf,
    /// What `go version` says.
    pub(super) version: String,
}

impl Program {
    /// Builds it; `None` if Go is not installed.
    ///
    /// # Errors
    ///
    /// If Go is there and does not build it.
    pub(super) fn build() -> Result<Option<Self>> {
        let Ok(version) = Command::new("go").arg("version").output() else { return Ok(None) };
        let version = String::from_utf8_lossy(&version.stdout).trim().trim_start_matches("go version ").to_owned();
        let folder = std::env::temp_dir().join(format!("weald-bench-go-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let program = Self { folder, version };
        let source = program.folder.join("main.go");
        fs::write(&source, SOURCE).with_context(|| format!("cannot write {}", source.display()))?;
        let built = Command::new("go")
            .current_dir(&program.folder)
            .args(["build", "-o"])
            .arg(program.path())
            .arg("main.go")
            .env("GO111MODULE", "off")
            .env("CGO_ENABLED", "0")
            .output()
            .context("cannot run go build")?;
        ensure!(built.status.success(), "go build failed: {}", String::from_utf8_lossy(&built.stderr));
        Ok(Some(program))
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("bench")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // What stays is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
