//! An engine that ends in the middle of something: every handle gets an error, and nobody waits for ever.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use driftline::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use driftline::futures_core::Stream;
use driftline::{Engine, ErrorKind, ManualClock, Settings, Source, TryPush};

use super::support::within_a_minute;

const CREATE: &str = "CREATE SOURCE s (n BIGINT)";

fn rows(count: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    RecordBatch::try_from_iter_with_nullable([("n", numbers, true)]).unwrap()
}

/// An engine in which little fits.
fn narrow(workers: usize) -> Engine {
    let settings = Settings {
        workers,
        ingress_bytes_max: 1 << 16,
        subscription_bytes_max: 1 << 14,
        epoch_bytes: 1 << 13,
        ..Settings::default()
    };
    let engine = Engine::builder().settings(settings).build().unwrap();
    engine.execute(CREATE).unwrap();
    engine
}

/// Pushes until nothing more is let in because a reader does not read.
fn fill(engine: &Engine, source: &Source) {
    loop {
        let waiting = engine.metrics().queries.iter().any(|query| query.waiting_bytes > 0);
        if matches!(source.try_push(rows(500)).unwrap(), TryPush::Full(_)) && waiting {
            return;
        }
    }
}

/// Starts threads that push until they fail, and says what they failed with.
fn pushers(source: &Source) -> Vec<std::thread::JoinHandle<ErrorKind>> {
    let push = |source: Source| loop {
        if let Err(error) = source.push(rows(500)) {
            return error.kind();
        }
    };
    (0..3).map(|_| source.clone()).map(|source| std::thread::spawn(move || push(source))).collect()
}

#[test]
fn dropping_the_engine_ends_pushes_that_wait() {
    for workers in [1, 2, 4] {
        within_a_minute(move || {
            let engine = narrow(workers);
            let mut unread = engine.subscribe("s").unwrap();
            let source = engine.source("s").unwrap();
            let pushers = pushers(&source);
            fill(&engine, &source);
            drop(engine);
            for pusher in pushers {
                assert_eq!(pusher.join().unwrap(), ErrorKind::Closed);
            }
            assert_eq!(source.try_push(rows(1)).unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(source.close().unwrap_err().kind(), ErrorKind::Closed);
            // What was there can be read; then comes the error, once.
            let error = unread.find_map(Result::err).unwrap();
            assert_eq!(error.kind(), ErrorKind::Closed);
            assert!(unread.next().is_none());
        });
    }
}

#[test]
fn shutting_down_ends_pushes_that_wait_and_loses_nothing_that_was_let_in() {
    for workers in [1, 2, 4] {
        within_a_minute(move || {
            let engine = narrow(workers);
            let unread = engine.subscribe("s").unwrap();
            let source = engine.source("s").unwrap();
            let accepted = Arc::new(AtomicUsize::new(0));
            let pushers: Vec<_> = (0..3)
                .map(|_| {
                    let (source, accepted) = (source.clone(), Arc::clone(&accepted));
                    std::thread::spawn(move || {
                        loop {
                            match source.push(rows(500)) {
                                Ok(()) => accepted.fetch_add(500, Ordering::SeqCst),
                                Err(error) => return error.kind(),
                            };
                        }
                    })
                })
                .collect();
            loop {
                let metrics = engine.metrics();
                if metrics.queries[0].waiting_bytes > 0 && metrics.ingress_bytes > 1 << 15 {
                    break;
                }
            }
            engine.shutdown().unwrap();
            for pusher in pushers {
                assert_eq!(pusher.join().unwrap(), ErrorKind::Closed);
            }
            let read: usize = unread.map(|batch| batch.unwrap().num_rows()).sum();
            assert_eq!(read, accepted.load(Ordering::SeqCst));
        });
    }
}

#[test]
fn dropping_the_reader_that_held_everyone_up_lets_them_go_on() {
    within_a_minute(|| {
        let engine = narrow(2);
        let unread = engine.subscribe("s").unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let other = engine
            .subscribe_with("s", move |batch| {
                count.fetch_add(batch.num_rows(), Ordering::SeqCst);
            })
            .unwrap();
        let source = engine.source("s").unwrap();
        fill(&engine, &source);
        let waits = source.clone();
        let pusher = std::thread::spawn(move || (0..100).try_for_each(|_| waits.push(rows(500))));
        drop(unread);
        pusher.join().unwrap().unwrap();
        let rows = engine.metrics().source("s").unwrap().rows;
        engine.shutdown().unwrap();
        other.join().unwrap();
        assert_eq!(seen.load(Ordering::SeqCst) as u64, rows);
    });
}

#[test]
fn dropping_the_engine_does_not_wait_for_a_callback() {
    within_a_minute(|| {
        let engine = narrow(2);
        let (entered, is_in) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel::<()>();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let callback = engine
            .subscribe_with("s", move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                entered.send(()).unwrap();
                may_leave.recv().unwrap();
            })
            .unwrap();
        let source = engine.source("s").unwrap();
        source.push(rows(10)).unwrap();
        is_in.recv().unwrap();
        // Results wait behind the call that does not return, and a push behind them.
        let pushers = pushers(&source);
        fill(&engine, &source);
        drop(engine);
        for pusher in pushers {
            assert_eq!(pusher.join().unwrap(), ErrorKind::Closed);
        }
        let waits = std::thread::spawn(move || callback.join());
        // Whoever hears of no more than one call may let go of all the others.
        drop(leave);
        assert!(waits.join().unwrap().is_err());
        assert_eq!(calls.load(Ordering::SeqCst), 1, "the call that failed was the last");
    });
}

#[test]
fn a_callback_may_end_its_own_engine() {
    for by_shutdown in [false, true] {
        for workers in [1, 2, 4] {
            within_a_minute(move || {
                let engine = narrow(workers);
                let source = engine.source("s").unwrap();
                let own: Arc<Mutex<Option<Engine>>> = Arc::default();
                let (done, is_done) = mpsc::channel();
                let held = Arc::clone(&own);
                let callback = engine
                    .subscribe_with("s", move |_| {
                        if let Some(engine) = held.lock().unwrap().take() {
                            let ended = if by_shutdown {
                                engine.shutdown()
                            } else {
                                drop(engine);
                                Ok(())
                            };
                            done.send(ended).unwrap();
                        }
                    })
                    .unwrap();
                *own.lock().unwrap() = Some(engine);
                source.push(rows(10)).unwrap();
                is_done.recv().unwrap().unwrap();
                let ended = callback.join();
                if by_shutdown {
                    ended.unwrap();
                } else {
                    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Closed);
                }
                assert_eq!(source.push(rows(1)).unwrap_err().kind(), ErrorKind::Closed);
            });
        }
    }
}

#[test]
fn a_callback_may_push_into_its_own_source_when_there_is_room() {
    within_a_minute(|| {
        let engine = Engine::builder().workers(2).build().unwrap();
        engine.execute(CREATE).unwrap();
        let source = engine.source("s").unwrap();
        let (again, calls) = (source.clone(), Arc::new(AtomicUsize::new(0)));
        let (done, is_done) = mpsc::channel();
        let callback = engine
            .subscribe_with("s", move |batch| match calls.fetch_add(1, Ordering::SeqCst) {
                100 => done.send(()).unwrap(),
                _ => drop(again.push(batch)),
            })
            .unwrap();
        source.push(rows(10)).unwrap();
        is_done.recv().unwrap();
        drop(engine);
        drop(callback.join());
    });
}

#[test]
fn dropping_the_engine_wakes_a_task_that_waits() {
    struct Flag(Mutex<Option<mpsc::Sender<()>>>);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            if let Some(sender) = self.0.lock().unwrap().take() {
                sender.send(()).unwrap();
            }
        }
    }
    within_a_minute(|| {
        let engine = narrow(2);
        let mut stream = Box::pin(engine.subscribe("s").unwrap().into_stream());
        let (send, receive) = mpsc::channel();
        let waker = Waker::from(Arc::new(Flag(Mutex::new(Some(send)))));
        let mut context = Context::from_waker(&waker);
        assert!(stream.as_mut().poll_next(&mut context).is_pending());
        drop(engine);
        receive.recv().unwrap();
        let Poll::Ready(Some(Err(error))) = stream.as_mut().poll_next(&mut context) else {
            panic!("the task gets an error");
        };
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(matches!(stream.as_mut().poll_next(&mut context), Poll::Ready(None)));
    });
}

/// Files whose reader waits: for the clock, or for room in the engine.
fn reading(pace: &str, folder: &Path) -> (Engine, driftline::Subscription) {
    let path = folder.join("in.csv");
    let lines: String = (0..20_000)
        .map(|i| format!("2024-01-01 {:02}:{:02}:{:02},{i}\n", i / 3600, i / 60 % 60, i % 60))
        .collect();
    fs::write(&path, format!("ts,n\n{lines}")).unwrap();
    let settings = Settings {
        workers: 2,
        ingress_bytes_max: 1 << 14,
        subscription_bytes_max: 1 << 12,
        epoch_bytes: 1 << 12,
        ..Settings::default()
    };
    let clock = Arc::new(ManualClock::default());
    let engine = Engine::builder().settings(settings).clock(clock).build().unwrap();
    engine
        .execute(&format!(
            "CREATE SOURCE files (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts)
               WITH (path = '{}', batch_rows = 100{pace})",
            path.display()
        ))
        .unwrap();
    let results = engine.subscribe("SELECT n FROM files").unwrap();
    engine.start().unwrap();
    (engine, results)
}

#[test]
fn dropping_the_engine_while_files_are_read_ends_their_readers() {
    for pace in ["", ", pace = 1"] {
        within_a_minute(move || {
            let folder = tempfile::tempdir().unwrap();
            let (engine, mut results) = reading(pace, folder.path());
            assert!(results.next().unwrap().unwrap().num_rows() > 0);
            let source = engine.source("files").unwrap();
            assert!(open_files(folder.path()) > 0 || !cfg!(target_os = "linux"));
            drop(engine);
            assert_eq!(results.find_map(Result::err).unwrap().kind(), ErrorKind::Closed);
            assert_eq!(source.close().unwrap_err().kind(), ErrorKind::Closed);
            // The thread that read the files ends too; the watchdog says if it does not.
            while open_files(folder.path()) > 0 {
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn shutting_down_while_files_wait_for_their_reader_reads_them_to_the_end() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let (engine, results) = reading("", folder.path());
        engine.shutdown().unwrap();
        assert_eq!(results.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 20_000);
    });
}

/// Files of `folder` that this process holds open; none where the system does not tell.
fn open_files(folder: &Path) -> usize {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return 0 };
    let paths = descriptors.flatten().filter_map(|it| fs::read_link(it.path()).ok());
    paths.filter(|path| path.starts_with(folder)).count()
}
