"""The tables of measured data: folds by subject become one row for each variant."""

from __future__ import annotations

import csv

from benchmarks import measured

HEADER = ["run", "protocol", "volume", "slice", "shift_y", "shift_x", "metric", "value", "status"]
PSNR = {"FSE": {"A": 30.0, "B": 26.0}, "GRE": {"A": 32.0, "B": 28.0}}


def row(run, protocol, volume, metric, value, status="ok"):
    return [run, protocol, volume, "", "", "", metric, value, status]


def results(folder, run="{}-f{}-s0", volume="scan-{}-{}"):
    rows = []
    for variant, gain, error in (("stride", 0.0, 1e-3), ("aps", 0.5, 1e-13)):
        for fold, subject in enumerate("AB"):
            name = run.format(variant, fold)
            for contrast, people in PSNR.items():
                of = volume.format(subject, contrast)
                rows.append(row(name, "zero-filled", of, "psnr", people[subject] - 5))
                rows.append(row(name, "zero-filled", of, "ssim", 0.5))
                rows.append(row(name, "plain", of, "psnr", people[subject] + gain))
                rows.append(row(name, "plain", of, "ssim", 0.75))
                rows.append(row(name, "equivariance", of, "nmse_eq", error))
                rows.append(row(name, "any-shift", of, "nmse_eq", 2 * error))
                rows.append(row(name, "any-shift", of, "nmse_eq", 1.0, "tie"))
    with (folder / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return folder


def test_people_are_counted_once_and_ties_not_at_all(tmp_path, capsys):
    assert measured.main(["people", str(results(tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| network | PSNR | range | SSIM | FSE | GRE |")
    assert lines[2:] == [
        "| zero-filled | 24.00 dB | 22.00 to 26.00 | 0.500 | 23.00 | 25.00 |  |  |",
        "| aps | 29.50 dB | 27.50 to 31.50 | 0.750 | 28.50 | 30.50 | 1.0e-13 | 2.0e-13 |",
        "| stride | 29.00 dB | 27.00 to 31.00 | 0.750 | 28.00 | 30.00 | 1.0e-03 | 2.0e-03 |",
    ]


def test_bad_input_is_one_sentence(tmp_path, capsys):
    assert measured.main(["people", str(tmp_path / "none")]) == 2
    assert measured.main(["people", str(tmp_path)]) == 2
    assert measured.main(["people", str(results(tmp_path, run="{}{}"))]) == 2
    assert measured.main(["tooth", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 4
