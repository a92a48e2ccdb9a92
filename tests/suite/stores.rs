//! What every checkpoint store must do, and engines that keep their checkpoints in an object store: one that works, fails,
//! waits, or never answers, called from threads of any kind.

use std::io::ErrorKind;
use std::sync::Arc;

use driftline::{CheckpointStore, FolderStore, MemoryStore};

/// What the engine counts on.
fn keeps_blobs(store: &dyn CheckpointStore) {
    assert_eq!(store.list().unwrap(), [""; 0]);
    assert_eq!(store.get("parts/a").unwrap(), None);
    store.remove("parts/a").unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7) as u8).collect();
    store.put("parts/a", b"before").unwrap();
    store.put("parts/a", &large).unwrap();
    store.put("manifest-00000000000000000001", b"").unwrap();
    assert_eq!(store.get("parts/a").unwrap(), Some(large), "it takes the other's place");
    assert_eq!(store.get("manifest-00000000000000000001").unwrap(), Some(Vec::new()));
    assert_eq!(store.get("parts").unwrap_or(None), None, "a part of a name is no name");
    for n in 0..1_190 {
        store.put(&format!("parts/{n:04}"), &[n as u8]).unwrap();
    }
    // Several at once, some of which are there or in a folder that is not.
    let several: Vec<(String, [u8; 1])> = (1_180..1_199_u16)
        .map(|n| (format!("parts/{n:04}"), [n as u8]))
        .chain([("other/1199".to_owned(), [7])])
        .collect();
    let several: Vec<_> = several.iter().map(|(name, byte)| (&name[..], &byte[..])).collect();
    store.put_all(&several).unwrap();
    store.put_all(&several).unwrap();
    store.put_all(&[]).unwrap();
    assert_eq!(store.get("parts/1190").unwrap(), Some(vec![1_190_u16 as u8]));
    assert_eq!(store.get("other/1199").unwrap(), Some(vec![7]));
    let mut names = store.list().unwrap();
    names.sort();
    assert_eq!(names.len(), 1_202);
    assert_eq!(names[..3], ["manifest-00000000000000000001", "other/1199", "parts/0000"]);
    for name in names {
        store.remove(&name).unwrap();
        store.remove(&name).unwrap();
    }
    assert_eq!(store.list().unwrap(), [""; 0]);
}

/// What never leads out of the folder or prefix.
fn refuses_what_is_no_name(store: &dyn CheckpointStore) {
    for name in ["../a", "/a", "", "a//b", "ä", ".a"] {
        assert_eq!(store.put(name, b"").unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        let both = [("fine", &b""[..]), (name, b"")];
        assert_eq!(store.put_all(&both).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        assert_eq!(store.get(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        assert_eq!(store.remove(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
    }
}

#[test]
fn a_folder_and_memory_keep_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    keeps_blobs(&store);
    refuses_what_is_no_name(&store);
    keeps_blobs(&MemoryStore::default());
    let store: Arc<dyn CheckpointStore> = Arc::new(store);
    super::checkpoints::goes_on_from(&|| Arc::clone(&store));
}

#[cfg(feature = "object_store")]
mod buckets {
    use std::fmt;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use driftline::object_store::memory::InMemory;
    use driftline::object_store::path::Path;
    use driftline::object_store::{
        CopyOptions, Error as ObjectError, GetOptions, GetResult, ListResult, MultipartUpload,
        ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
        Result as ObjectResult,
    };
    use driftline::{BucketStore, Checkpoints, Engine};

    use super::super::checkpoints::goes_on_from;
    use super::super::faults::{Faulty, goes_on_whenever_it_dies};
    use super::super::support::within_minutes;
    use super::*;

    fn in_memory() -> Arc<dyn ObjectStore> {
        Arc::new(InMemory::new())
    }

    fn bucket(objects: &Arc<dyn ObjectStore>) -> BucketStore {
        BucketStore::open(Arc::clone(objects), "a/b c").unwrap()
    }

    /// What goes wrong with a call.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Trouble {
        None,
        /// One call of five fails, in a way that passes.
        Busy,
        Denied,
        /// The disk behind it is full.
        Full,
        /// The answer never comes.
        Silent,
        Panics,
    }

    /// An object store in memory with calls that go wrong.
    #[derive(Clone, Debug)]
    struct Odd {
        inner: Arc<InMemory>,
        trouble: Trouble,
        calls: Arc<AtomicU64>,
    }

    impl Odd {
        fn with(trouble: Trouble) -> Self {
            Self { inner: Arc::default(), trouble, calls: Arc::default() }
        }

        async fn call(&self) -> ObjectResult<()> {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let generic = |source| ObjectError::Generic { store: "odd", source };
            match self.trouble {
                Trouble::Busy if call % 5 == 1 => Err(generic("it is busy".into())),
                Trouble::None | Trouble::Busy => Ok(()),
                Trouble::Denied => Err(ObjectError::PermissionDenied {
                    path: "a".into(),
                    source: "not yours".into(),
                }),
                Trouble::Full => {
                    Err(generic(Box::new(std::io::Error::from(ErrorKind::StorageFull))))
                }
                Trouble::Silent => std::future::pending().await,
                Trouble::Panics => panic!("the object store has a bug"),
            }
        }
    }

    impl fmt::Display for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("odd")
        }
    }

    type Answer<'a, T> = Pin<Box<dyn Future<Output = ObjectResult<T>> + Send + 'a>>;
    type Listed<T> = Pin<Box<dyn futures_core::Stream<Item = ObjectResult<T>> + Send>>;

    /// The first item of a stream is an error if the call is to fail.
    struct Troubled<T>(Answer<'static, ()>, bool, Listed<T>);

    impl<T> futures_core::Stream for Troubled<T> {
        type Item = ObjectResult<T>;

        fn poll_next(
            mut self: Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            let own = &mut *self;
            if !own.1 {
                match std::task::ready!(own.0.as_mut().poll(context)) {
                    Ok(()) => own.1 = true,
                    Err(error) => return std::task::Poll::Ready(Some(Err(error))),
                }
            }
            own.2.as_mut().poll_next(context)
        }
    }

    /// As the macro `async_trait` would have it.
    impl ObjectStore for Odd {
        fn put_opts<'life0, 'life1, 'async_trait>(
            &'life0 self,
            location: &'life1 Path,
            payload: PutPayload,
            options: PutOptions,
        ) -> Answer<'async_trait, PutResult>
        where
            'life0: 'async_trait,
            'life1: 'async_trait,
        {
            Box::pin(async move {
                self.call().await?;
                self.inner.put_opts(location, payload, options).await
            })
        }

        fn put_multipart_opts<'life0, 'life1, 'async_trait>(
            &'life0 self,
            location: &'life1 Path,
            options: PutMultipartOptions,
        ) -> Answer<'async_trait, Box<dyn MultipartUpload>>
        where
            'life0: 'async_trait,
            'life1: 'async_trait,
        {
            self.inner.put_multipart_opts(location, options)
        }

        fn get_opts<'life0, 'life1, 'async_trait>(
            &'life0 self,
            location: &'life1 Path,
            options: GetOptions,
        ) -> Answer<'async_trait, GetResult>
        where
            'life0: 'async_trait,
            'life1: 'async_trait,
        {
            Box::pin(async move {
                self.call().await?;
                self.inner.get_opts(location, options).await
            })
        }

        fn delete_stream(&self, locations: Listed<Path>) -> Listed<Path> {
            let own = self.clone();
            let call: Answer<'static, ()> = Box::pin(async move { own.call().await });
            Box::pin(Troubled(call, false, self.inner.delete_stream(locations)))
        }

        fn list(&self, prefix: Option<&Path>) -> Listed<ObjectMeta> {
            let own = self.clone();
            let call: Answer<'static, ()> = Box::pin(async move { own.call().await });
            Box::pin(Troubled(call, false, self.inner.list(prefix)))
        }

        fn list_with_delimiter<'life0, 'life1, 'async_trait>(
            &'life0 self,
            prefix: Option<&'life1 Path>,
        ) -> Answer<'async_trait, ListResult>
        where
            'life0: 'async_trait,
            'life1: 'async_trait,
        {
            self.inner.list_with_delimiter(prefix)
        }

        fn copy_opts<'life0, 'life1, 'life2, 'async_trait>(
            &'life0 self,
            from: &'life1 Path,
            to: &'life2 Path,
            options: CopyOptions,
        ) -> Answer<'async_trait, ()>
        where
            'life0: 'async_trait,
            'life1: 'async_trait,
            'life2: 'async_trait,
        {
            self.inner.copy_opts(from, to, options)
        }
    }

    fn odd(trouble: Trouble) -> BucketStore {
        BucketStore::open(Arc::new(Odd::with(trouble)), "a").unwrap()
    }

    #[test]
    fn a_bucket_keeps_blobs_below_its_prefix() {
        let objects = in_memory();
        let other = BucketStore::open(Arc::clone(&objects), "a/b").unwrap();
        other.put("theirs", b"").unwrap();
        keeps_blobs(&bucket(&objects));
        refuses_what_is_no_name(&bucket(&objects));
        assert_eq!(other.list().unwrap(), ["theirs"], "others are left alone");
        keeps_blobs(&BucketStore::open(in_memory(), "").unwrap());
        keeps_blobs(&odd(Trouble::None));
        let refused = BucketStore::open(in_memory(), "a//b").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn engines_go_on_from_a_bucket() {
        let objects = in_memory();
        goes_on_from(&|| Arc::new(bucket(&objects)));
        // One that fails now and then is asked again.
        let objects: Arc<dyn ObjectStore> = Arc::new(Odd::with(Trouble::Busy));
        goes_on_from(&|| Arc::new(bucket(&objects)));
    }

    #[test]
    fn a_process_that_dies_over_its_bucket_goes_on_as_if_it_had_not() {
        goes_on_whenever_it_dies(&|| Faulty::over(Box::new(bucket(&in_memory()))));
    }

    #[test]
    fn errors_tell_what_waiting_may_change() {
        for (trouble, kind) in [
            (Trouble::Denied, ErrorKind::PermissionDenied),
            (Trouble::Full, ErrorKind::StorageFull),
            (Trouble::Panics, ErrorKind::Other),
        ] {
            let store = odd(trouble);
            assert_eq!(store.put("a", b"1").unwrap_err().kind(), kind, "{trouble:?}");
            assert_eq!(store.get("a").unwrap_err().kind(), kind, "{trouble:?}");
            assert_eq!(store.list().unwrap_err().kind(), kind, "{trouble:?}");
            assert_eq!(store.remove("a").unwrap_err().kind(), kind, "{trouble:?}");
        }
        let build = |trouble| {
            let checkpoints = Checkpoints::new(Arc::new(odd(trouble)));
            Engine::builder().checkpoints(checkpoints).build().unwrap_err()
        };
        let error = build(Trouble::Denied);
        assert_eq!(error.kind(), driftline::ErrorKind::Unavailable);
        assert!(error.to_string().contains("not yours"), "{error}");
        assert!(build(Trouble::Panics).to_string().contains("panicked"));
    }

    #[test]
    fn a_call_that_never_returns_is_given_up() {
        within_minutes(|| {
            let objects = Odd::with(Trouble::Silent);
            let store = BucketStore::open(Arc::new(objects.clone()), "a").unwrap();
            let store = store.call_time_max(Duration::from_millis(20));
            for _ in 0..3 {
                assert_eq!(store.put("a", b"1").unwrap_err().kind(), ErrorKind::TimedOut);
            }
            assert_eq!(store.list().unwrap_err().kind(), ErrorKind::TimedOut);
            // What was given up is forgotten: nobody but the store and this test holds the objects.
            drop(store);
            while Arc::strong_count(&objects.calls) > 1 {
                std::thread::yield_now();
            }
            let store = BucketStore::open(Arc::new(objects), "a").unwrap();
            let store = store.call_time_max(Duration::from_millis(20));
            let checkpoints = Checkpoints::new(Arc::new(store));
            let error = Engine::builder().checkpoints(checkpoints).build().unwrap_err();
            assert!(error.to_string().contains("no answer in 20ms"), "{error}");
        });
    }

    /// Whoever waits for a future within a runtime panics; the store's calls do not.
    #[test]
    fn it_is_called_within_a_runtime_of_the_hosts() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let objects = in_memory();
            for from in 0..2 {
                let store = bucket(&objects);
                keeps_engines(store, from);
            }
            drop(bucket(&objects));
        });
    }

    fn keeps_engines(store: BucketStore, from: u64) {
        let engine = Engine::builder().checkpoints(Checkpoints::new(Arc::new(store))).build();
        let engine = engine.unwrap();
        engine.execute("CREATE SOURCE s (n BIGINT)").unwrap();
        assert_eq!(engine.source("s").unwrap().resume_at(), from);
        engine.execute("INSERT INTO s VALUES (1)").unwrap();
        engine.checkpoint().unwrap();
    }

    #[test]
    fn threads_share_it() {
        let store = bucket(&in_memory());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..50 {
                        let name = format!("parts/{thread}-{n}");
                        store.put(&name, name.as_bytes()).unwrap();
                        assert_eq!(store.get(&name).unwrap().unwrap(), name.as_bytes());
                    }
                });
            }
        });
        assert_eq!(store.list().unwrap().len(), 400);
    }
}
