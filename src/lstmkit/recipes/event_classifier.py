"""Protocols of event classification: payments of cards, sales reports, connections in order, network flows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score

from lstmkit.data import catalog
from lstmkit.data.tables.row_encoding import DAY
from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.data.tables.table import read_file
from lstmkit.jobs.event_classifier.job import EventClassifier
from lstmkit.jobs.event_classifier.splitting import known_positive
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def card_payments(
    job: EventClassifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Labels of some days train; after days of delay, payments of later days are scored.

    Payments of all days before are context. Cards with a fraud that is known on the day of a payment are dropped, as in
    the Fraud Detection Handbook: frauds from the start of its training week up to the day before the delay.
    """
    events = job.read(catalog.locate(folder.name, options["file"]))
    days = np.floor(_seconds(events) / DAY)
    (train_from, train_to), (test_from, test_to) = (map(_day, options[part]) for part in ("train", "test"))
    is_train = (days >= train_from) & (days < train_to)
    fit(events.with_targets_at(is_train).select(days < train_to))
    is_fraud = (events.require_targets()[:, 0] == "1") & (days >= _day(options["handbook_train"][0]))
    known = known_positive(events, is_fraud, days, options["delay_days"])
    is_test = (days >= test_from) & (days < test_to) & ~known
    test = events.with_targets_at(is_test).select(days < test_to)
    return job.evaluate(test, progress=progress).table


def _seconds(events: RowSequences) -> np.ndarray:
    assert events.seconds is not None
    return events.seconds


def _day(date: str) -> float:
    return float(np.datetime64(date, "D").astype(int))


def reports(job: EventClassifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Stratified hold-out of the inspected reports; all others are context without a label.

    The precision at 10 % effort is the fraction of frauds among the tenth of the inspected test reports with the
    highest probabilities.
    """
    frame = read_file(catalog.locate(folder.name, options["file"])).frame
    quantity, value = (np.asarray(pd.to_numeric(frame[name]), dtype=np.float64) for name in ("quant", "val"))
    frame = frame.assign(price=value / quantity, insp=frame["insp"].where(frame["insp"] != "unkn", None))
    events = job.read(frame)
    labels = events.require_targets()[:, 0]
    rng = np.random.default_rng(options["seed"])
    part = np.full(events.num_rows, -1)  # 0 trains, 1 validates, 2 tests
    for name in ("ok", "fraud"):
        rows = rng.permutation(np.flatnonzero(labels == name))
        part[rows] = np.searchsorted(np.cumsum(options["fractions"]) * len(rows), np.arange(len(rows)), side="right")
    fit(events.with_targets_at(part == 0), events.with_targets_at(part == 1))
    evaluation = job.evaluate(events.with_targets_at(part == 2), progress=progress)
    table, outputs = evaluation.table, evaluation.outputs
    is_fraud = outputs.targets == job.predictor.decisions.positive
    effort = round(0.1 * len(is_fraud))
    positive = job.predictor.decisions.positive
    top = {name: np.argsort(-p[:, positive], kind="stable")[:effort] for name, p in outputs.probabilities.items()}
    precision = [float(is_fraud[top[name]].mean()) for name in table["model"]]
    recall = [float(is_fraud[top[name]].sum() / is_fraud.sum()) for name in table["model"]]
    columns = {"precision at 10 % effort": precision, "recall at 10 % effort": recall}
    chance = table["model"] == "class frequencies"  # its order is that of the table
    return table.assign(**{name: np.where(chance, np.nan, values) for name, values in columns.items()})


def connections(
    job: EventClassifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Connection records in their order, five classes of traffic; every seventh block of the training file validates.

    Two rows show what the order alone gives: the true label of the record before, and the most frequent class.
    """
    train, test = (_traffic(catalog.locate(folder.name, options[part])) for part in ("train", "test"))
    events = job.read(train)
    block = np.arange(events.num_rows) * options["blocks"] // events.num_rows
    is_valid = block % 7 == 6
    end = int(np.flatnonzero(is_valid).max()) + 1
    fit(events.with_targets_at(~is_valid), events.with_targets_at(is_valid).select(np.arange(len(block)) < end))
    evaluation = job.evaluate(test, progress=progress)
    targets, classes = evaluation.outputs.targets, job.predictor.classes
    before = np.concatenate([targets[:1], targets[:-1]])
    macro = f1_score(targets, before, average="macro", zero_division=0)  # type: ignore[arg-type]
    row = {"model": "true label of the record before", "accuracy": float(accuracy_score(targets, before))}
    table = pd.concat([evaluation.table, pd.DataFrame([{**row, "macro F1": float(macro)}])], ignore_index=True)
    attack = np.array([name != "normal" for name in classes])
    binary = {
        name: float((attack[p.argmax(1)] == attack[targets]).mean())
        for name, p in evaluation.outputs.probabilities.items()
    }
    binary["true label of the record before"] = float((attack[before] == attack[targets]).mean())
    return table.assign(**{"accuracy, attack or not": [binary[name] for name in table["model"]]})


_ATTACKS = {
    "dos": "back land neptune pod smurf teardrop apache2 mailbomb processtable udpstorm",
    "probe": "satan ipsweep nmap portsweep mscan saint",
    "r2l": (
        "guess_passwd ftp_write imap phf multihop warezmaster warezclient spy xlock xsnoop snmpguess snmpgetattack "
        "httptunnel sendmail named worm"
    ),
    "u2r": "buffer_overflow loadmodule rootkit perl sqlattack xterm ps",
    "normal": "normal",
}  # the task description of KDD Cup 1999, and the classes that its test labels got


_FEATURES = (
    "duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent hot num_failed_logins "
    "logged_in num_compromised root_shell su_attempted num_root num_file_creations num_shells num_access_files "
    "num_outbound_cmds is_host_login is_guest_login count srv_count serror_rate srv_serror_rate rerror_rate "
    "srv_rerror_rate same_srv_rate diff_srv_rate srv_diff_host_rate dst_host_count dst_host_srv_count "
    "dst_host_same_srv_rate dst_host_diff_srv_rate dst_host_same_src_port_rate dst_host_srv_diff_host_rate "
    "dst_host_serror_rate dst_host_srv_serror_rate dst_host_rerror_rate dst_host_srv_rerror_rate"
)


def _traffic(path: Path) -> pd.DataFrame:
    """The records of a file with one of five classes as label."""
    frame = pd.read_csv(path, header=None, names=[*_FEATURES.split(), "label"], compression="gzip")
    classes = {attack: name for name, attacks in _ATTACKS.items() for attack in attacks.split()}
    return frame.assign(label=frame["label"].str.rstrip(".").map(classes))


def flows(job: EventClassifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Network flows of two computers train, those of a third one on the next day test. Background is context.

    The last fifth of each training capture validates. A second average precision leaves out the flows in state S0,
    which almost alone tell attacks.
    """
    train = pd.concat([_flows(folder, name) for name in options["train"]], ignore_index=True)
    events = job.read(train)
    position = np.arange(events.num_rows) - events.starts[:-1][events.entities]
    is_valid = position >= 0.8 * events.lengths[events.entities]
    fit(events.with_targets_at(~is_valid).select(~is_valid), events.with_targets_at(is_valid))
    frame = _flows(folder, options["test"])
    test = job.read(frame)
    evaluation = job.evaluate(test, progress=progress)
    other = test.with_targets_at(test.has_target & (frame["conn_state"] != "S0").to_numpy()[test.rows])
    harder = job.evaluate(other, progress=progress).table["average precision"]
    return evaluation.table.assign(**{"average precision, not S0": harder})


def _flows(folder: Path, name: str) -> pd.DataFrame:
    frame = read_file(catalog.locate(folder.name, name)).frame
    frame = frame.assign(capture=name, label=frame["label"].where(frame["label"] != "Background", None))
    return frame.mask(frame == "-", None)


PROTOCOLS = {"card_payments": card_payments, "reports": reports, "connections": connections, "flows": flows}
