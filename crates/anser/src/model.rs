//! A loaded model: file, plan, tokenizer and the executor that runs it.

use crate::cache::{CacheStats, EmbeddingCache};
use crate::chat::{CHATML_END, CHATML_START, ChatTemplate};
use crate::device::{Executor, Opening};
use crate::draft::Drafts;
use crate::environment;
use crate::error::Error;
use crate::files::{self, FileId};
#[cfg(feature = "grammar")]
use crate::grammar::Compiler;
use crate::heads::Heads;
#[cfg(not(target_arch = "wasm32"))]
use crate::lora::{Lora, with_loras};
use crate::now::now;
use crate::options::Options;
use crate::process::OfProcess;
use crate::running::Running;
use crate::session::Session;
use crate::vocabulary::{self, DocumentTokens};
use anser_format::{FileKind, MetaValue, ModelFile};
use anser_model::{Config, Identity, Plan, State, StateLayout};
use anser_tokenizer::Tokenizer;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// What messages call a file of a model among its inputs.
#[cfg(not(target_arch = "wasm32"))]
const MODEL_INPUT: &str = "the model";

/// A model, ready to run. Clones share everything.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    file: Arc<ModelFile>,
    /// The file as it was opened, without adapters.
    #[cfg(not(target_arch = "wasm32"))]
    opened: Arc<ModelFile>,
    config: Config,
    plan: Arc<Plan>,
    layout: Arc<StateLayout>,
    /// The tuned state in the file, if it has one: fresh sessions start from it instead of zeros.
    initial_state: OnceLock<State>,
    vocabulary: Option<PathBuf>,
    tokenizer: OnceLock<Result<Tokenizer, String>>,
    documents: DocumentTokens,
    /// Compiles grammars for the tokenizer's vocabulary; made when the first one is used.
    #[cfg(feature = "grammar")]
    grammars: OnceLock<Result<Compiler, String>>,
    fingerprint: OnceLock<String>,
    running: OfProcess<Running>,
    identity: OnceLock<Arc<Identity>>,
    digest: OnceLock<String>,
    /// The files that the model is read from: description, name and identity of each.
    inputs: Vec<(&'static str, String, FileId)>,
    embeddings: Mutex<EmbeddingCache>,
    heads: Heads,
    drafts: Drafts,
    /// The device and the reason for it, in one line.
    chosen: String,
    /// `chosen` with the executor's notices about the device, once they are known.
    device: OnceLock<String>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({}, {}, {})", self.inner.file.name(), self.inner.plan.title, self.inner.chosen)
    }
}

impl Model {
    /// Opens the GGUF, safetensors or PyTorch (`.pth`) model at `path`. It may lie in several files: then `path` names any part
    /// of a split GGUF model, or a shard or the index (`model.safetensors.index.json`) of a safetensors model. `path` may also
    /// name the folder of a model of Hugging Face's. The call returns when the index is checked and the device is open. Weights
    /// become resident in the background, and a step waits for those that it needs. The CPU uses the mapped files in place; the
    /// GPU gets a copy, of which none stays on the host.
    ///
    /// The files must not be changed while the model is in use, since weights would change with them. Every step first
    /// compares their sizes and times of change, and fails if they differ. If a file is cut short within a step,
    /// reading a weight through the mapping ends the process (SIGBUS); [`Options::in_memory`] avoids that. Replacing or
    /// deleting the files does no harm.
    ///
    /// # Errors
    /// If the file is no RWKV model that can be run, or the device cannot be used.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(path: impl AsRef<std::path::Path>, options: &Options) -> Result<Model, Error> {
        let path = path.as_ref();
        let file = if options.in_memory { ModelFile::read(path)? } else { ModelFile::open(path)? };
        // The path may be that of an index, which is not one of the parts.
        let paths = std::iter::once(path).chain(file.part_names().map(Path::new));
        let input = |path: &Path| Some((MODEL_INPUT, path.display().to_string(), FileId::of(path).ok()??));
        let inputs = paths.filter_map(input).collect();
        now(Model::new(file, inputs, options))
    }

    /// The demo model that is compiled into the library: small, trained on synthetic stories, chats and e-mails.
    ///
    /// # Errors
    /// If the device cannot be used.
    #[cfg(feature = "embedded-model")]
    pub fn embedded(options: &Options) -> Result<Model, Error> {
        Model::from_file(ModelFile::from_static("demo", anser_demo::MODEL)?, options)
    }

    /// A model in an open file. [`Options::in_memory`] has no effect here: the caller opened the file mapped or in memory.
    ///
    /// # Errors
    /// If the file is no RWKV model that can be run, or the device cannot be used; in a browser, [`Error::MustWait`] for any device but the
    /// processor.
    pub fn from_file(file: Arc<ModelFile>, options: &Options) -> Result<Model, Error> {
        now(Model::from_file_async(file, options))
    }

    /// [`Model::from_file`], for where nothing may block. In a browser, which has no threads for the background, it returns when all
    /// weights are on the device: [`Options::on_load`] tells how far it has got, and can end it.
    ///
    /// # Errors
    /// As [`Model::from_file`].
    pub async fn from_file_async(file: Arc<ModelFile>, options: &Options) -> Result<Model, Error> {
        Model::new(file, vec![], options).await
    }

    /// The model in the same open files as another one: with other adapters, which is what [`Options::lora`] is for, or on another device. On
    /// the CPU both use one mapping of the files, so that the second one takes the memory of its adapters and states alone if their pairs lie
    /// beside the weights ([`LoraForm::Beside`](crate::LoraForm::Beside)); on a GPU each has its weights there. This model's own adapters do
    /// not count for the other.
    ///
    /// # Errors
    /// As [`Model::load`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_options(&self, options: &Options) -> Result<Model, Error> {
        self.check_process()?;
        let inputs = self.inner.inputs.iter().filter(|(what, _, _)| *what == MODEL_INPUT).cloned().collect();
        now(Model::new(self.inner.opened.clone(), inputs, options))
    }

    /// A model in an open file that was read from `inputs`.
    async fn new(
        file: Arc<ModelFile>,
        mut inputs: Vec<(&'static str, String, FileId)>,
        options: &Options,
    ) -> Result<Model, Error> {
        if let Some(path) = &options.vocabulary {
            let id = FileId::of(path).ok().flatten();
            inputs.extend(id.map(|id| ("the vocabulary", path.display().to_string(), id)));
        }
        #[cfg(not(target_arch = "wasm32"))]
        let opened = file.clone();
        #[cfg(not(target_arch = "wasm32"))]
        let file = {
            let read = options.lora.iter().flat_map(Lora::inputs);
            inputs.extend(
                read.filter_map(|(what, path)| Some((what, path.display().to_string(), FileId::of(path).ok()??))),
            );
            with_loras(&file, &options.lora, environment::threads(options.n_threads)?)?
        };
        let (config, plan, executor, chosen) = set_up(&file, options).await?;
        let heads = Heads::of(&file, config.n_embd)?;
        let given = options.tokenizer.clone().map(|tokenizer| vocabulary::of_size(tokenizer, config.n_vocab));
        let tokenizer = given.map_or_else(OnceLock::new, OnceLock::from);
        let model = Model {
            inner: Arc::new(Inner {
                layout: Arc::new(plan.state.clone()),
                running: OfProcess::new(Running::new(executor, &file)),
                documents: DocumentTokens::of(&file, config.n_vocab),
                file,
                #[cfg(not(target_arch = "wasm32"))]
                opened,
                config,
                plan,
                vocabulary: options.vocabulary.clone(),
                tokenizer,
                #[cfg(feature = "grammar")]
                grammars: OnceLock::new(),
                fingerprint: OnceLock::new(),
                identity: OnceLock::new(),
                digest: OnceLock::new(),
                inputs,
                embeddings: Mutex::new(EmbeddingCache::new(options.embedding_cache_n_bytes)),
                heads,
                drafts: Drafts::default(),
                chosen,
                device: OnceLock::new(),
                initial_state: OnceLock::new(),
            }),
        };
        let is_tuned = model.inner.file.tensors().any(|tensor| is_tuned_state(tensor.name));
        let may_be_tuned = match model.inner.file.kind() {
            FileKind::Safetensors | FileKind::Torch(_) => true,
            FileKind::Gguf { .. } => false,
        };
        if is_tuned && may_be_tuned {
            let state = model.state_from_tuned(model.file())?;
            model.inner.initial_state.get_or_init(|| state);
        }
        Ok(model)
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        self.inner.file.name()
    }

    /// The file.
    pub fn file(&self) -> &Arc<ModelFile> {
        &self.inner.file
    }

    /// The RWKV version and the sizes of the model.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The operations that the model computes.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.inner.plan
    }

    /// The order of the elements of a state of this model.
    pub fn state_layout(&self) -> &Arc<StateLayout> {
        &self.inner.layout
    }

    /// The state that fresh sessions start from, if the file carries a tuned one (tensors `blocks.L.att.time_state`);
    /// without it they start from zeros.
    pub fn initial_state(&self) -> Option<&State> {
        self.inner.initial_state.get()
    }

    /// The device that the model runs on and the reason for it, in one line. On a GPU the call waits until memory is
    /// allocated there.
    pub fn device(&self) -> &str {
        let chosen = &self.inner.chosen;
        if let Some(told) = self.inner.device.get() {
            return told;
        }
        // In a forked child, a thread of the parent that was filling the `OnceLock` does not exist, so the child must
        // not wait for it.
        if self.check_process().is_err() {
            return chosen;
        }
        let notices = || self.executor().map_or(vec![], |executor| executor.notices());
        self.inner.device.get_or_init(|| [vec![chosen.clone()], notices()].concat().join("; "))
    }

    /// Checks that this is the process that loaded the model. Every function that computes calls this first.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child that was forked after the model was loaded.
    pub fn check_process(&self) -> Result<(), Error> {
        self.running().map(drop)
    }

    /// A new session with a fresh state.
    ///
    /// # Errors
    /// If the device has no memory for another state, or a file of the model was changed.
    pub fn session(&self) -> Result<Session, Error> {
        self.check_process()?;
        self.inner.file.check_unchanged()?;
        Session::new(self.clone())
    }

    /// Waits until every weight that stays on the device is there. Calling it is optional: a step waits for the weights
    /// that it needs.
    ///
    /// # Errors
    /// The error that ended loading: the device was lost, the file changed, or [`Options::on_load`] returned `Break`.
    pub fn finish_loading(&self) -> Result<(), Error> {
        self.may_block()?;
        now(self.finish_loading_async())
    }

    /// [`Model::finish_loading`], for where nothing may block.
    ///
    /// # Errors
    /// As [`Model::finish_loading`].
    pub async fn finish_loading_async(&self) -> Result<(), Error> {
        self.executor()?.finish_loading().await
    }

    /// The GPU memory that the model takes; `None` on the CPU.
    ///
    /// # Errors
    /// If memory for it could not be allocated.
    pub fn gpu_memory(&self) -> Result<Option<anser_gpu::MemoryUse>, Error> {
        self.executor()?.gpu_memory()
    }

    /// The model's tokenizer; made at the first call.
    ///
    /// # Errors
    /// If the file has none and its vocabulary is not the World one, or the one it has is unusable.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        let made = match self.inner.tokenizer.get() {
            Some(made) => made,
            None => {
                // In a forked child, a thread of the parent that was making it does not exist, so the child must not
                // wait for it.
                self.check_process()?;
                self.inner.tokenizer.get_or_init(|| vocabulary::of_model(self, self.inner.vocabulary.as_deref()))
            }
        };
        made.as_ref().map_err(|reason| Error::Tokenizer { file: self.name().into(), reason: reason.clone() })
    }

    /// The tokens that end a document: token 0 in RWKV's own vocabularies, and those that a GGUF file with a byte-level BPE names.
    pub fn document_ends(&self) -> &[u32] {
        &self.inner.documents.ends
    }

    /// The token that begins a document, which an empty prompt is read as: token 0 in RWKV's own vocabularies, else the one that the file
    /// names.
    pub fn document_start(&self) -> u32 {
        self.inner.documents.start
    }

    /// What compiles grammars for the model's vocabulary; made at the first call.
    ///
    /// # Errors
    /// As [`Model::tokenizer`]; [`Error::Forked`].
    #[cfg(feature = "grammar")]
    pub(crate) fn grammar_compiler(&self) -> Result<&Compiler, Error> {
        // In a forked child, a thread of the parent that was making it or that held its lock does not exist.
        self.check_process()?;
        let tokenizer = self.tokenizer()?;
        let made = self.inner.grammars.get_or_init(|| Compiler::new(tokenizer));
        made.as_ref().map_err(|reason| Error::Tokenizer { file: self.name().into(), reason: reason.clone() })
    }

    /// How the model was trained on conversations. A vocabulary with ChatML's marks tells it; else the name does: that in the file
    /// (`general.name`), or the file's own.
    pub fn chat_template(&self) -> ChatTemplate {
        let has_mark = |mark: &str| self.tokenizer().is_ok_and(|tokenizer| tokenizer.special_token(mark).is_some());
        if [CHATML_START, CHATML_END].into_iter().all(has_mark) {
            return ChatTemplate::ChatMl;
        }
        let in_file = self.inner.file.metadata("general.name").and_then(MetaValue::as_str);
        let path = Path::new(self.name());
        let of_path = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A folder's model may be called model.safetensors.
        let of_folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        let names = [in_file.unwrap_or_default(), of_path, of_folder];
        names.into_iter().map(ChatTemplate::of_name).max().unwrap_or_default()
    }

    /// Token ids of `text`.
    ///
    /// # Errors
    /// As [`Model::tokenizer`].
    pub fn encode(&self, text: impl AsRef<[u8]>) -> Result<Vec<u32>, Error> {
        Ok(self.tokenizer()?.encode(text.as_ref()))
    }

    /// A name for the model that all its file types and quantizations share: SHA-256 over the sizes and the final norm,
    /// whose numbers no converter quantizes (rounded to bf16, which F16, BF16 and F32 files of a model that was trained in
    /// bf16 share). Fine-tunes that leave this norm alone have the same; [`Model::identity`] tells more of them apart.
    pub fn fingerprint(&self) -> &str {
        self.inner.fingerprint.get_or_init(|| {
            let mut hash = Sha256::new();
            hash.update(self.inner.plan.title.as_bytes());
            for weight in self.inner.plan.weights.iter().filter(|w| w.name().starts_with("ln_out.")) {
                let bf16 = weight.to_f32().into_iter().flat_map(|x| {
                    let rounded = x.to_bits().wrapping_add(0x8000);
                    [(rounded >> 16) as u8, (rounded >> 24) as u8]
                });
                hash.update(bf16.collect::<Vec<u8>>());
            }
            hex(&hash.finalize())
        })
    }

    /// The identity of the model: it differs between models of equal sizes, and not between file types and
    /// quantizations of one model. State files carry it.
    ///
    /// # Errors
    /// If the file cannot be read, or was changed.
    pub fn identity(&self) -> Result<&Arc<Identity>, Error> {
        if let Some(identity) = self.inner.identity.get() {
            return Ok(identity);
        }
        let identity = Arc::new(Identity::of(&self.inner.plan)?);
        Ok(self.inner.identity.get_or_init(|| identity))
    }

    /// Checks that the vocabulary has all of `tokens`.
    ///
    /// # Errors
    /// The first id that it does not have.
    pub fn check_ids(&self, tokens: &[u32]) -> Result<(), Error> {
        let n_vocab = self.config().n_vocab;
        match tokens.iter().position(|&id| id as usize >= n_vocab) {
            Some(position) => {
                Err(anser_model::StepError::TokenOutOfRange { id: tokens[position], position, n_vocab }.into())
            }
            None => Ok(()),
        }
    }

    /// Checks that a session of this model can continue from `state`.
    ///
    /// # Errors
    /// A state of another shape or, if the state names its model, of another model.
    pub fn check_state(&self, state: &State) -> Result<(), Error> {
        if state.layout() != self.state_layout() {
            let (expected, found) = (self.state_layout().len(), state.data().len());
            return Err(anser_model::StateError::Length { expected, found }.into());
        }
        let Some(made_by) = state.model() else { return Ok(()) };
        let identity = self.identity()?;
        if !Arc::ptr_eq(made_by, identity) && !made_by.is_same_model(identity) {
            return Err(anser_model::StateError::OtherModel { title: identity.title().into() }.into());
        }
        Ok(())
    }

    /// A digest of the file, which differs between quantizations: SHA-256 over types, shapes and some rows of all weights.
    ///
    /// # Errors
    /// If the file cannot be read, or was changed.
    pub fn digest(&self) -> Result<&str, Error> {
        /// The number of rows of every matrix that are hashed.
        const N_ROWS: usize = 4;

        if let Some(digest) = self.inner.digest.get() {
            return Ok(digest);
        }
        let mut hash = Sha256::new();
        hash.update(self.inner.file.variant().unwrap_or_default());
        let mut scratch = vec![];
        for weight in &self.inner.plan.weights {
            let (n_rows, n_cols) = (weight.n_rows(), weight.n_cols());
            hash.update(format!("{} {} {n_rows} {n_cols}\n", weight.name(), weight.dtype().name()));
            for i in 0..N_ROWS.min(n_rows) {
                let row = (2 * i + 1) * n_rows / (2 * N_ROWS.min(n_rows));
                hash.update(weight.fetch_rows(row..row + 1, &mut scratch)?);
            }
        }
        let digest = hex(&hash.finalize());
        Ok(self.inner.digest.get_or_init(|| digest))
    }

    /// Checks that an output may be written to `path`, which must lead to none of the files that this model is read
    /// from, under any name. [`Session::save_state`] calls this itself.
    ///
    /// # Errors
    /// [`Error::Output`] names the file.
    pub fn check_output(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        files::check_output_by_id(path.as_ref(), self.inner.inputs.iter().cloned())
    }

    /// The counts of the cache of embeddings.
    pub fn embedding_cache_stats(&self) -> CacheStats {
        self.embeddings().stats()
    }

    /// The executor with what belongs to it.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child that was forked after the model was loaded.
    pub(crate) fn running(&self) -> Result<&Running, Error> {
        self.inner.running.get()
    }

    /// Whether `other` is a clone of this loaded model.
    pub(crate) fn is(&self, other: &Model) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The draft models that were used with this one.
    pub(crate) fn drafts(&self) -> &Drafts {
        &self.inner.drafts
    }

    /// A handle that does not keep the model loaded.
    pub(crate) fn downgrade(&self) -> WeakModel {
        WeakModel(Arc::downgrade(&self.inner))
    }

    pub(crate) fn embeddings(&self) -> MutexGuard<'_, EmbeddingCache> {
        self.inner.embeddings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The heads of an embedding model.
    pub(crate) fn heads(&self) -> &Heads {
        &self.inner.heads
    }

    /// Checks that the model computes logits of tokens, as all do but those that embed or rank texts.
    ///
    /// # Errors
    /// [`Error::Option`] names the model.
    pub fn check_has_logits(&self) -> Result<(), Error> {
        match self.inner.plan.logits {
            Some(_) => Ok(()),
            None => Err(Error::Option {
                option: "model",
                reason: format!(
                    "{} has no logits of tokens: it embeds or ranks texts, and continues none",
                    self.name()
                ),
            }),
        }
    }
}

/// A handle of a model that does not keep it loaded.
pub(crate) struct WeakModel(Weak<Inner>);

impl WeakModel {
    /// Whether it is a handle of `model`.
    pub(crate) fn is_of(&self, model: &Model) -> bool {
        // No other model has the address as long as this handle exists.
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&model.inner))
    }

    /// Whether the model was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the plan of `file` and its executor. Meanwhile threads start the device and read the file into the system's cache.
async fn set_up(file: &Arc<ModelFile>, options: &Options) -> Result<(Config, Arc<Plan>, Executor, String), Error> {
    // A wrong option is an error before anything starts, also if the model is to run on a GPU.
    if options.n_threads.is_some() {
        environment::threads(options.n_threads)?;
    }
    let opening = Opening::start(options);
    #[cfg(not(target_arch = "wasm32"))]
    {
        let file = file.clone();
        // If the system starts no thread, the pages of the file are read when they are needed.
        let _ = std::thread::Builder::new().name("anser-read".into()).spawn(move || file.read_ahead());
    }
    let (config, plan) = anser_model::load(file)?;
    let plan = Arc::new(plan);
    let (executor, chosen) = Executor::new(&plan, options, opening).await?;
    Ok((config, plan, executor, chosen))
}

/// Whether a tensor of this name is a layer's part of a tuned initial state.
fn is_tuned_state(name: &str) -> bool {
    name.starts_with("blocks.") && name.ends_with(".att.time_state")
}
