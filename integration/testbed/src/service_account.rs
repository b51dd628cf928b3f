//! A service account's token, as a pod finds it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    error::{Error, Result},
    jwt::{Claims, ISSUER, Signer},
};

/// The service account `pipeline` in the namespace `default`, with its token in a projected volume.
///
/// As in a pod, `token` is a link to `..data/token` and `..data` a link to a folder named after the time; the
/// kubelet replaces a token by writing a new folder and renaming a new `..data` over the old one.
#[derive(Debug)]
pub struct ServiceAccount {
    volume: PathBuf,
    signer: Arc<Signer>,
    /// The cluster next door, whose tokens are as good as forged.
    stranger: Signer,
    versions: AtomicU64,
}

impl ServiceAccount {
    pub(crate) fn new(volume: PathBuf, signer: Arc<Signer>) -> Result<Self> {
        fs::create_dir_all(&volume).map_err(Error::file(&volume))?;
        let token = volume.join("token");
        symlink("..data/token", &token).map_err(Error::file(token))?;
        let account = Self { volume, signer, stranger: Signer::new()?, versions: AtomicU64::new(0) };
        account.rotate()?;
        Ok(account)
    }

    /// The namespace.
    pub fn namespace(&self) -> &'static str {
        "default"
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        "pipeline"
    }

    /// Who its tokens say that they are from.
    pub fn issuer(&self) -> &'static str {
        ISSUER
    }

    /// The key, in PEM, that its tokens' signatures are checked with where no cluster is asked.
    pub fn public_key(&self) -> &str {
        self.signer.public_pem()
    }

    /// Where the token is, whatever its version.
    pub fn token_path(&self) -> PathBuf {
        self.volume.join("token")
    }

    /// Puts a new token of an hour in the old one's place.
    pub fn rotate(&self) -> Result<()> {
        self.rotate_with(&Claims::default())
    }

    /// Puts a token that says something else in the old one's place.
    pub fn rotate_with(&self, claims: &Claims) -> Result<()> {
        self.write_raw(&self.token(claims)?)
    }

    /// Makes a token without writing it anywhere.
    pub fn token(&self, claims: &Claims) -> Result<String> {
        if claims.forged { self.stranger.sign(claims) } else { self.signer.sign(claims) }
    }

    /// Puts any text in the token's place, such as a token cut short or one with a newline at its end.
    pub fn write_raw(&self, content: &str) -> Result<()> {
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        let name = format!("..{stamp}.{version}");
        let folder = self.volume.join(&name);
        fs::create_dir(&folder).map_err(Error::file(&folder))?;
        let token = folder.join("token");
        fs::write(&token, content).map_err(Error::file(token))?;

        let data = self.volume.join("..data");
        let old = fs::read_link(&data).ok();
        let fresh = self.volume.join("..data_tmp");
        symlink(&name, &fresh).map_err(Error::file(&fresh))?;
        fs::rename(&fresh, &data).map_err(Error::file(&data))?;
        match old {
            Some(old) => remove_folder(&self.volume.join(old)),
            None => Ok(()),
        }
    }

    /// Takes the token away; the next rotation brings it back.
    pub fn remove(&self) -> Result<()> {
        let data = self.volume.join("..data");
        let Ok(old) = fs::read_link(&data) else { return Ok(()) };
        fs::remove_file(&data).map_err(Error::file(&data))?;
        remove_folder(&self.volume.join(old))
    }
}

fn remove_folder(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(Error::file(folder))
}
