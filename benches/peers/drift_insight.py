"""The algorithm of `drift_insight` as users of numpy and scikit-learn would write it, timed over a given fleet.

    python3 drift_insight.py FILE COMPONENTS METRICS TRAINING WARM_UP SLOTS

FILE holds float64 values, little-endian: component by component, slot by slot, metric by metric. Models are trained on
TRAINING slots, and SLOTS slots after the first WARM_UP are timed. One line of JSON comes out. Needs numpy and scikit-learn: pip install scikit-learn
"""

import json
import sys
import time
from collections import Counter, deque

import numpy as np
import sklearn
from scipy.stats import norm
from sklearn.cluster import DBSCAN
from sklearn.neighbors import NearestNeighbors

WINDOW = 10
DEVIATIONS = 3.0
DEVIATION_FLOOR = 1.0 / 3.0
FLAT = 1e-9
EVOLVE_MIN = 48
EPS_FACTOR = 1.0


def knee(distances):
    """Where the sorted curve lies farthest below its chord; between the floor and the 99th percentile."""
    curve = np.sort(distances)
    chord = np.linspace(curve[0], curve[-1], len(curve))
    return min(curve[np.argmax(chord - curve)], curve[int((len(curve) - 1) * 0.99)])


def keep_states(labels, before, next_state):
    """New clusters take the states of the old ones that they share most points with."""
    shared = Counter((new, old) for new, old in zip(labels, before) if new >= 0 and old >= 0)
    names = {}
    for (new, old), _ in shared.most_common():
        if new not in names and old not in names.values():
            names[new] = old
    for new in sorted(set(labels[labels >= 0])):
        if new not in names:
            names[new] = next_state
            next_state += 1
    return np.array([names.get(label, -1) for label in labels]), next_state


def habits(things, window):
    """Mean and deviation of each thing's count over all sliding windows, by thing."""
    names, codes = np.unique(things, return_inverse=True)
    sums = np.zeros((len(things) + 1, len(names)))
    sums[1:] = np.cumsum(np.eye(len(names))[codes], axis=0)
    counts = sums[window:] - sums[:-window]
    shares = sums[-1] / len(things)
    deviations = np.maximum.reduce(
        [counts.std(axis=0), np.sqrt(window * shares * (1 - shares)), np.full(len(names), DEVIATION_FLOOR)]
    )
    return dict(zip(names.tolist(), zip(counts.mean(axis=0).tolist(), deviations.tolist())))


def oddity(known, counts, adds):
    """The largest deviation of a count from its mean, of those that the current slot adds to."""
    worst = 0.0
    for name in known.keys() | counts.keys():
        mean, deviation = known.get(name, (0.0, DEVIATION_FLOOR))
        z = (counts.get(name, 0) - mean) / deviation
        if abs(z) > worst and adds(name, z > 0):
            worst = abs(z)
    return worst


def pair(first, second):
    """A transition as one number, so that numpy can sort it."""
    return (first + 1) * 1_000_000 + second + 1


class Model:
    """One component."""

    def __init__(self, history):
        self.history = history
        self.states = np.empty(0, int)
        self.next_state = 0
        self.rebuilds = 0
        self.fresh = []
        self.build(np.empty(0, int))

    def build(self, before):
        points, metrics = self.history.shape
        self.mean, deviation = self.history.mean(axis=0), self.history.std(axis=0)
        self.inverse = np.where(deviation < FLAT, 0.0, 1.0 / np.maximum(deviation, FLAT))
        z = (self.history - self.mean) * self.inverse
        min_points = min(max(4, metrics + 1), max(2, points // 20))
        distances, _ = NearestNeighbors(n_neighbors=min_points).fit(z).kneighbors(z)
        self.eps = EPS_FACTOR * max(knee(distances[:, -1]), 0.05 * metrics**0.5)
        clusters = DBSCAN(eps=self.eps, min_samples=min_points).fit(z)
        labels = clusters.labels_
        last = labels.max()
        converged = int(np.argmax(labels == last)) if last > 0 else 0
        self.batch = max(EVOLVE_MIN, round(0.1 * (converged or points)))
        self.states, self.next_state = keep_states(labels, before, self.next_state)
        cores = clusters.core_sample_indices_
        self.core_states = self.states[cores]
        self.nearest = NearestNeighbors(n_neighbors=1).fit(z[cores]) if len(cores) else None
        outside = (labels < 0).mean()
        self.far = min(max(norm.isf(outside), 0.5), DEVIATIONS) if outside else DEVIATIONS
        self.occupancy = habits(self.states, WINDOW)
        self.transit = habits(pair(self.states[:-1], self.states[1:]), WINDOW - 1)
        self.window = deque(self.states[-WINDOW:].tolist(), maxlen=WINDOW)
        self.rebuilds += 1

    def step(self, row):
        """The state of a row and whether it is anomalous; then learns from it."""
        state, distance = -1, 0.0
        if self.nearest is not None:
            found, index = self.nearest.kneighbors(((row - self.mean) * self.inverse)[None])
            distance = found[0, 0] / self.eps
            if distance <= 1.0:
                state = int(self.core_states[index[0, 0]])
        self.window.append(state)
        states = list(self.window)
        steps = [pair(a, b) for a, b in zip(states, states[1:])]
        unseen = steps[-1] not in self.transit and states[-2] in self.occupancy
        odd = max(
            oddity(self.occupancy, Counter(states), lambda name, more: (name == state) == more),
            oddity(
                self.transit,
                Counter(steps),
                lambda name, more: name == steps[-1] if more else name % 1_000_000 != state + 1,
            ),
            distance * self.far,
        )
        self.fresh.append(row)
        if len(self.fresh) >= self.batch:
            count = len(self.fresh)
            self.history = np.concatenate([self.history[count:], self.fresh])
            self.fresh = []
            self.build(self.states[count:])
        return state, bool(unseen or odd > DEVIATIONS)


def main():
    path, components, metrics, training, warm_up, slots = sys.argv[1], *map(int, sys.argv[2:])
    fleet = np.fromfile(path, "<f8").reshape(components, warm_up + slots, metrics)
    begin = time.process_time()
    models = [Model(rows[:training]) for rows in fleet]
    trained = time.process_time()
    for model, rows in zip(models, fleet):
        for row in rows[training:warm_up]:
            model.step(row)
    begun, rebuilds = time.process_time(), sum(model.rebuilds for model in models)
    answers = [[] for _ in models]
    for slot in range(warm_up, warm_up + slots):
        for model, rows, answer in zip(models, fleet, answers):
            answer.append(model.step(rows[slot]))
    scored = time.process_time()
    print(
        json.dumps(
            {
                "versions": f"scikit-learn {sklearn.__version__}, numpy {np.__version__}",
                "training_seconds": trained - begin,
                "scoring_seconds": scored - begun,
                "rebuilds": sum(model.rebuilds for model in models) - rebuilds,
                "states": [[state for state, _ in answer] for answer in answers],
                "alarms": sum(alarm for answer in answers for _, alarm in answer),
            }
        )
    )


main()
