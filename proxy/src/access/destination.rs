//! The open file behind the access log.

use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, fchown};
use std::path::Path;

use super::File;

/// Who may read a new log: visitors' addresses are nobody else's business.
const MODE: u32 = 0o640;

/// Where lines are written, open or to be opened.
pub(crate) struct Destination {
    file: File,
    open: Option<fs::File>,
}

impl Destination {
    /// Opens it. If that makes a file, it is given to this user and group.
    ///
    /// # Errors
    ///
    /// If it cannot be opened; a pipe that nobody reads yet is left for later.
    pub(crate) fn open(file: &File, owner: Option<(u32, u32)>) -> io::Result<Self> {
        if let (File::Path(path), Some((user, group))) = (file, owner) {
            match options().create_new(true).open(path) {
                Ok(made) => fchown(&made, Some(user), Some(group))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { file: file.clone(), open: open(file)? })
    }

    /// Opens what has the name by now, in place of what is open.
    ///
    /// # Errors
    ///
    /// If it cannot be opened. What was open stays open.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.open = open(&self.file)?;
        Ok(())
    }

    /// Writes something of the pieces, without waiting where the file is a pipe of ours.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] while a pipe is full or has no reader; [`io::ErrorKind::BrokenPipe`] when its reader
    /// has left, and then it will be opened anew; whatever else the system says.
    pub(super) fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.open.is_none() {
            self.reopen()?;
        }
        let Some(open) = &mut self.open else { return Err(io::ErrorKind::WouldBlock.into()) };
        let written = open.write_vectored(pieces);
        let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        // Standard output cannot be opened anew; somebody may have put another reader in place of the old one.
        if self.file != File::Stdout && written.as_ref().is_err_and(broken) {
            self.open = None;
        }
        written
    }

    /// As messages name it.
    pub(super) fn name(&self) -> String {
        match &self.file {
            File::Path(path) => path.display().to_string(),
            File::Stdout => "stdout".to_owned(),
        }
    }
}

fn open(file: &File) -> io::Result<Option<fs::File>> {
    match file {
        // A file handle of our own: the standard library's would buffer lines again.
        File::Stdout => Ok(Some(io::stdout().as_fd().try_clone_to_owned()?.into())),
        File::Path(path) => open_path(path),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Opening a pipe would otherwise wait for a reader, and writing to it for the reader's progress.
    options.append(true).mode(MODE).custom_flags(libc::O_NONBLOCK);
    options
}

fn open_path(path: &Path) -> io::Result<Option<fs::File>> {
    match options().create(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_pipe(path) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}
