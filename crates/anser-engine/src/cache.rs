//! States after the turns of prompts, so that a conversation's next turn reads its own tokens only.

use crate::disk::DiskCache;
use crate::limits::CacheLimits;
use crate::request::Tenant;
use crate::stats::Stats;
use anser::{Error, Model, PrefixCache, Session};

/// The states that are kept, in up to three places. Each state belongs to a tenant, and no other tenant's look-up sees it.
#[derive(Debug)]
pub(crate) struct TurnCache {
    model: Model,
    device: Option<PrefixCache>,
    host: Option<PrefixCache>,
    disk: Option<DiskCache>,
}

impl TurnCache {
    pub(crate) fn new(model: &Model, limits: &CacheLimits) -> TurnCache {
        let open = |folder: &std::path::PathBuf| match DiskCache::open(folder, limits.folder_n_bytes, model) {
            Ok(disk) => Some(disk),
            Err(error) => {
                log::warn!("states are not cached on disk: {error}");
                None
            }
        };
        TurnCache {
            model: model.clone(),
            device: (limits.device_n_bytes > 0).then(|| PrefixCache::on_device(model, limits.device_n_bytes)),
            host: (limits.host_n_bytes > 0).then(|| PrefixCache::new(model, limits.host_n_bytes)),
            disk: limits.folder.as_ref().and_then(open),
        }
    }

    /// The cache for another load of the same model: states on the device are gone.
    pub(crate) fn for_model(self, model: &Model) -> TurnCache {
        let of = |cache: Option<PrefixCache>| cache.map(|cache| cache.for_model(model));
        TurnCache { model: model.clone(), device: of(self.device), host: of(self.host), disk: self.disk }
    }

    /// Whether anything is kept at all.
    fn keeps(&self) -> bool {
        self.device.is_some() || self.host.is_some() || self.disk.is_some()
    }

    /// A session that has read the longest prefix of `tokens` that `tenant` has here, and the length of this prefix.
    /// `needs_logits`: a session that has read all of `tokens` must have the logits of the last one.
    pub(crate) fn longest(
        &mut self,
        tenant: Tenant,
        tokens: &[u32],
        needs_logits: bool,
    ) -> Result<(Session, usize), Error> {
        if !self.keeps() || tokens.is_empty() {
            return Ok((self.model.session()?, 0));
        }
        let (session, n_tokens) = self.find(tenant, tokens)?;
        if needs_logits && n_tokens == tokens.len() && session.logits().is_empty() {
            return self.find(tenant, &tokens[..n_tokens - 1]);
        }
        Ok((session, n_tokens))
    }

    fn find(&mut self, Tenant(tenant): Tenant, tokens: &[u32]) -> Result<(Session, usize), Error> {
        let len_in = |cache: &Option<PrefixCache>| cache.as_ref().map_or(0, |cache| cache.longest_len(tenant, tokens));
        let (in_device, in_host) = (len_in(&self.device), len_in(&self.host));
        let in_memory = in_device.max(in_host);
        if let Some(disk) = &mut self.disk {
            match disk.find(tenant, tokens).filter(|(len, _)| *len > in_memory) {
                None => disk.count_miss(),
                Some((len, name)) => {
                    if let Some(saved) = disk.load(&self.model, &name) {
                        let mut session = self.model.session()?;
                        session.resume(&saved.state, &saved.logits)?;
                        // The next turn finds it in memory.
                        self.insert_in_memory(tenant, &tokens[..len], &mut session)?;
                        return Ok((session, len));
                    }
                }
            }
        }
        match (&mut self.device, &mut self.host) {
            (Some(device), _) if in_device >= in_host => device.longest_of(tenant, tokens),
            (_, Some(host)) => host.longest_of(tenant, tokens),
            _ => Ok((self.model.session()?, 0)),
        }
    }

    /// Keeps the state of `session`, which has read `tokens` from a fresh state, for `tenant`.
    pub(crate) fn insert(
        &mut self,
        Tenant(tenant): Tenant,
        tokens: &[u32],
        session: &mut Session,
    ) -> Result<(), Error> {
        if tokens.is_empty() {
            return Ok(());
        }
        self.insert_in_memory(tenant, tokens, session)?;
        match &mut self.disk {
            Some(disk) => disk.save(tenant, tokens, session).or_else(|error| match error.is_device_lost() {
                true => Err(error),
                // A full disk is no fault of the request.
                false => {
                    log::warn!("a state is not cached on disk: {error}");
                    Ok(())
                }
            }),
            None => Ok(()),
        }
    }

    fn insert_in_memory(&mut self, tenant: u64, tokens: &[u32], session: &mut Session) -> Result<(), Error> {
        for cache in [&mut self.device, &mut self.host].into_iter().flatten() {
            if let Err(error) = cache.insert_of(tenant, tokens, session) {
                match error.is_out_of_memory() {
                    true => log::info!("a state is not cached: {error}"),
                    false => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Takes memory for the next states while nothing else is to do.
    pub(crate) fn prepare(&mut self) {
        if let Some(host) = &mut self.host {
            host.prepare();
        }
    }

    pub(crate) fn add_to(&self, stats: &mut Stats) {
        stats.device_cache = self.device.as_ref().map(PrefixCache::stats).unwrap_or_default();
        stats.host_cache = self.host.as_ref().map(PrefixCache::stats).unwrap_or_default();
        stats.disk_cache = self.disk.as_ref().map(DiskCache::stats).unwrap_or_default();
    }
}
