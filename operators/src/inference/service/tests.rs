//! Proofs about the service, with devices that are slow or fail: nothing is lost, order and bounds hold, and what
//! shares a launch does not show.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Wake;

use super::*;

/// Doubles each number.
#[derive(Debug)]
struct Double;

impl Network for Double {
    fn inputs(&self) -> usize {
        2
    }

    fn outputs(&self) -> usize {
        2
    }

    fn score(&self, _on: Compute, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        out.extend(rows.iter().map(|x| 2.0 * x));
        Ok(())
    }
}

/// A device that begins a launch only when told to, and says how many rows it got.
#[derive(Debug)]
struct Slow {
    go: Mutex<Receiver<Result<(), String>>>,
    begun: Mutex<Sender<usize>>,
}

impl Device for Slow {
    fn score(&self, network: &dyn Network, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        lock(&self.begun).send(rows.len() / network.inputs()).expect("the test listens");
        let told = lock(&self.go).recv().expect("the test says when");
        match told {
            Ok(()) => network.score(Compute::Gpu, rows, out),
            Err(problem) if problem == "panic" => panic!("the device is gone"),
            Err(problem) => Err(problem),
        }
    }
}

fn settings() -> ServiceSettings {
    ServiceSettings {
        queue_rows_max: 10,
        launch_rows_max: 6,
        latency: Duration::ZERO,
        failures_max: 2,
    }
}

/// Counts how often it was woken.
#[derive(Debug, Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn quiet() -> &'static Waker {
    Waker::noop()
}

fn rows(count: usize, from: f32) -> Vec<f32> {
    (0..2 * count).map(|i| from + i as f32).collect()
}

// As a ticket gives it.
#[allow(clippy::unnecessary_wraps)]
fn doubled(count: usize, from: f32) -> Option<Result<Vec<f32>, ServiceError>> {
    Some(Ok(rows(count, from).iter().map(|x| 2.0 * x).collect()))
}

/// Runs `test` beside a service on a slow device.
fn beside(
    settings: ServiceSettings,
    test: impl FnOnce(
        &InferenceService,
        &Arc<dyn Network>,
        &Sender<Result<(), String>>,
        &Receiver<usize>,
    ),
) -> ServiceStatistics {
    let service = InferenceService::new(settings);
    let network: Arc<dyn Network> = Arc::new(Double);
    let (go, told) = channel();
    let (begun, begins) = channel();
    std::thread::scope(|scope| {
        let slow = Slow { go: Mutex::new(told), begun: Mutex::new(begun) };
        let service = &service;
        scope.spawn(move || service.run(&slow, &|| Duration::ZERO));
        test(service, &network, &go, &begins);
        service.close();
    });
    service.statistics()
}

#[test]
fn a_slow_device_holds_nobody_up_and_the_queue_is_bounded() {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let statistics = beside(settings(), |service, network, go, begins| {
        let first = service.submit(network, rows(1, 0.0), &waker).unwrap();
        assert_eq!(begins.recv(), Ok(1));
        // The device is at work: submitting returns at once, until the queue is full.
        let others: Vec<Ticket> =
            (1..=3).map(|i| service.submit(network, rows(3, i as f32), &waker).unwrap()).collect();
        assert_eq!(service.statistics().queued_rows, 10);
        let (problem, back) = service.submit(network, rows(1, 9.0), &waker).unwrap_err();
        assert_eq!((problem, back), (ServiceError::Full, rows(1, 9.0)));
        assert_eq!(first.take(), None);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        go.send(Ok(())).unwrap();
        // Two of the three share the next launch, which takes six rows.
        assert_eq!(begins.recv(), Ok(6));
        assert_eq!(first.take(), doubled(1, 0.0));
        assert_eq!(first.take(), None, "outputs are given once");
        go.send(Ok(())).unwrap();
        assert_eq!(begins.recv(), Ok(3));
        go.send(Ok(())).unwrap();
        service.close();
        while woken.0.load(Ordering::SeqCst) < 5 {
            std::thread::yield_now();
        }
        for (i, ticket) in others.iter().enumerate() {
            assert_eq!(ticket.take(), doubled(3, 1.0 + i as f32), "request {i}");
        }
    });
    let ServiceStatistics { requests, refused, launches, rows, queued_rows, .. } = statistics;
    assert_eq!((requests, refused, launches, rows, queued_rows), (4, 1, 3, 10, 0));
}

#[test]
fn what_waits_when_the_service_ends_is_answered() {
    let mut tickets = Vec::new();
    beside(settings(), |service, network, go, begins| {
        tickets.push(service.submit(network, rows(1, 0.0), quiet()).unwrap());
        begins.recv().unwrap();
        tickets.push(service.submit(network, rows(2, 5.0), quiet()).unwrap());
        service.close();
        let (problem, _) = service.submit(network, rows(1, 0.0), quiet()).unwrap_err();
        assert_eq!(problem, ServiceError::Closed);
        go.send(Ok(())).unwrap();
        go.send(Ok(())).unwrap();
    });
    assert_eq!(tickets[0].take(), doubled(1, 0.0));
    assert_eq!(tickets[1].take(), doubled(2, 5.0));
}

#[test]
fn a_device_that_fails_is_made_up_for_and_given_up() {
    let mut tickets = Vec::new();
    let statistics = beside(settings(), |service, network, go, begins| {
        for (i, outcome) in
            [Err("out of memory".to_owned()), Err("panic".to_owned())].into_iter().enumerate()
        {
            tickets.push(service.submit(network, rows(1, i as f32), quiet()).unwrap());
            begins.recv().unwrap();
            go.send(outcome).unwrap();
        }
        // After two failures in a row the device is not asked again.
        tickets.push(service.submit(network, rows(1, 2.0), quiet()).unwrap());
    });
    for (i, ticket) in tickets.iter().enumerate() {
        assert_eq!(ticket.take(), doubled(1, i as f32), "request {i}");
    }
    assert_eq!((statistics.failures, statistics.is_given_up, statistics.requests), (2, true, 3));
    assert_eq!(
        (statistics.fallbacks, statistics.launches),
        (3, 3),
        "the third went to the CPU at once"
    );
    assert_eq!(statistics.problem.as_deref(), Some("the device is gone"));
}

#[test]
fn rows_that_nobody_waits_for_are_forgotten() {
    let woken = Arc::new(Woken::default());
    let statistics = beside(settings(), |service, network, go, begins| {
        let first = service.submit(network, rows(1, 0.0), quiet()).unwrap();
        begins.recv().unwrap();
        let unwanted = service.submit(network, rows(8, 1.0), quiet()).unwrap();
        let waker = Waker::from(Arc::clone(&woken));
        let (problem, back) = service.submit(network, rows(4, 2.0), &waker).unwrap_err();
        assert_eq!(problem, ServiceError::Full);
        drop(unwanted);
        // The room is free at once.
        let second = service.submit(network, back, &waker).unwrap();
        assert_eq!(service.statistics().queued_rows, 5);
        go.send(Ok(())).unwrap();
        assert_eq!(begins.recv(), Ok(4), "the eight rows are not scored");
        go.send(Ok(())).unwrap();
        service.close();
        while woken.0.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        assert_eq!((first.take(), second.take()), (doubled(1, 0.0), doubled(4, 2.0)));
    });
    assert_eq!((statistics.rows, statistics.queued_rows), (5, 0));
}

#[derive(Debug)]
struct Broken;

impl Network for Broken {
    fn inputs(&self) -> usize {
        1
    }

    fn outputs(&self) -> usize {
        1
    }

    fn score(&self, _on: Compute, _rows: &[f32], _out: &mut Vec<f32>) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn networks_that_cannot_be_scored_give_errors() {
    let service = InferenceService::new(settings());
    let network: Arc<dyn Network> = Arc::new(Broken);
    let ticket = service.submit(&network, vec![1.0], quiet()).unwrap();
    service.close();
    service.run(&Compute::Cpu, &|| Duration::ZERO);
    let problem = ServiceError::Failed("0 numbers came out instead of 1".into());
    assert_eq!(ticket.take(), Some(Err(problem)));
    let double: Arc<dyn Network> = Arc::new(Double);
    let odd = InferenceService::new(settings()).submit(&double, vec![1.0], quiet());
    assert_eq!(odd.unwrap_err().0, ServiceError::Rows { rows: 1, inputs: 2 });
}

/// Cannot score what is negative.
#[derive(Debug)]
struct Picky;

impl Network for Picky {
    fn inputs(&self) -> usize {
        1
    }

    fn outputs(&self) -> usize {
        1
    }

    fn score(&self, _on: Compute, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        out.extend_from_slice(rows);
        match rows.iter().any(|x| *x < 0.0) {
            true => Err("below zero".into()),
            false => Ok(()),
        }
    }
}

#[test]
fn rows_that_cannot_be_scored_do_no_harm_to_others() {
    let service = InferenceService::new(settings());
    let network: Arc<dyn Network> = Arc::new(Picky);
    let tickets: Vec<Ticket> =
        [1.0, -1.0, 2.0].map(|x| service.submit(&network, vec![x], quiet()).unwrap()).into();
    service.close();
    service.run(&Compute::Cpu, &|| Duration::ZERO);
    assert_eq!(service.statistics().launches, 1);
    let found: Vec<_> = tickets.iter().map(|ticket| ticket.take().unwrap()).collect();
    let failed = Err(ServiceError::Failed("below zero".into()));
    assert_eq!(found, [Ok(vec![1.0]), failed, Ok(vec![2.0])]);
}

#[test]
fn versions_do_not_share_a_launch() {
    let service = InferenceService::new(ServiceSettings { queue_rows_max: 100, ..settings() });
    let versions: [Arc<dyn Network>; 2] = [Arc::new(Double), Arc::new(Double)];
    let tickets: Vec<Ticket> = (0..6)
        .map(|i| service.submit(&versions[i % 2], rows(1, i as f32), quiet()).unwrap())
        .collect();
    service.close();
    service.run(&Compute::Cpu, &|| Duration::ZERO);
    for (i, ticket) in tickets.iter().enumerate() {
        assert_eq!(ticket.take(), doubled(1, i as f32));
    }
    assert_eq!(service.statistics().launches, 2);
}

#[test]
fn rows_submitted_from_many_threads_all_come_back() {
    let service =
        InferenceService::new(ServiceSettings { latency: Duration::from_micros(50), ..settings() });
    let network: Arc<dyn Network> = Arc::new(Double);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| service.run(&Compute::Cpu, &|| Duration::ZERO));
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (service, network) = (&service, &network);
                scope.spawn(move || {
                    for i in 0..200 {
                        let from = (1_000 * worker + i) as f32;
                        let mut own = rows(1 + i % 3, from);
                        let ticket = loop {
                            match service.submit(network, own, quiet()) {
                                Ok(ticket) => break ticket,
                                Err((problem, back)) => {
                                    assert_eq!(problem, ServiceError::Full);
                                    own = back;
                                    std::thread::yield_now();
                                }
                            }
                        };
                        let found = loop {
                            match ticket.take() {
                                Some(found) => break found,
                                None => std::thread::yield_now(),
                            }
                        };
                        assert_eq!(Some(found), doubled(1 + i % 3, from));
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        service.close();
        running.join().unwrap();
    });
    assert_eq!(service.statistics().requests, 800);
}
