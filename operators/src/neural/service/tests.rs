//! Proofs about the service, with devices that are slow or fail: nothing is lost, order and bounds hold, and what
//! shares a launch does not show.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

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
struct Slow {
    go: Receiver<Result<(), String>>,
    begun: Sender<usize>,
}

impl Device for Slow {
    fn score(
        &mut self,
        network: &dyn Network,
        rows: &[f32],
        out: &mut Vec<f32>,
    ) -> Result<(), String> {
        self.begun.send(rows.len() / network.inputs()).expect("the test listens");
        match self.go.recv().expect("the test says when") {
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

fn quiet() -> Wake {
    Box::new(|| {})
}

fn rows(count: usize, from: f32) -> Vec<f32> {
    (0..2 * count).map(|i| from + i as f32).collect()
}

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
        scope.spawn(|| service.run(&mut Slow { go: told, begun }, &|| Duration::ZERO));
        test(&service, &network, &go, &begins);
        service.close();
    });
    service.statistics()
}

#[test]
fn a_slow_device_holds_nobody_up_and_the_queue_is_bounded() {
    let woken = Arc::new(AtomicUsize::new(0));
    let statistics = beside(settings(), |service, network, go, begins| {
        let wake = || -> Wake {
            let woken = Arc::clone(&woken);
            Box::new(move || {
                woken.fetch_add(1, Ordering::SeqCst);
            })
        };
        let first = service.submit(network, rows(1, 0.0), wake()).unwrap();
        assert_eq!(begins.recv(), Ok(1));
        // The device is at work: submitting returns at once, until the queue is full.
        let others: Vec<Ticket> =
            (1..=3).map(|i| service.submit(network, rows(3, i as f32), wake()).unwrap()).collect();
        assert_eq!(service.statistics().queued_rows, 10);
        let (problem, back) = service.submit(network, rows(1, 9.0), wake()).unwrap_err();
        assert_eq!((problem, back), (ServiceError::Full, rows(1, 9.0)));
        assert_eq!(first.take(), None);
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        go.send(Ok(())).unwrap();
        // Two of the three share the next launch, which takes six rows.
        assert_eq!(begins.recv(), Ok(6));
        assert_eq!(first.take(), doubled(1, 0.0));
        assert_eq!(first.take(), None, "outputs are given once");
        go.send(Ok(())).unwrap();
        assert_eq!(begins.recv(), Ok(3));
        go.send(Ok(())).unwrap();
        service.close();
        while woken.load(Ordering::SeqCst) < 5 {
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
    service.run(&mut Compute::Cpu, &|| Duration::ZERO);
    let problem = ServiceError::Failed("0 numbers came out instead of 1".into());
    assert_eq!(ticket.take(), Some(Err(problem)));
    let double: Arc<dyn Network> = Arc::new(Double);
    let odd = InferenceService::new(settings()).submit(&double, vec![1.0], quiet());
    assert_eq!(odd.unwrap_err().0, ServiceError::Rows { rows: 1, inputs: 2 });
}

#[test]
fn versions_do_not_share_a_launch() {
    let service = InferenceService::new(ServiceSettings { queue_rows_max: 100, ..settings() });
    let versions: [Arc<dyn Network>; 2] = [Arc::new(Double), Arc::new(Double)];
    let tickets: Vec<Ticket> = (0..6)
        .map(|i| service.submit(&versions[i % 2], rows(1, i as f32), quiet()).unwrap())
        .collect();
    service.close();
    service.run(&mut Compute::Cpu, &|| Duration::ZERO);
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
        let running = scope.spawn(|| service.run(&mut Compute::Cpu, &|| Duration::ZERO));
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
