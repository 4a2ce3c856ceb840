from __future__ import annotations

import ast
import errno
import multiprocessing
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data_prep import FastMRIDataset, LoDoPaBDataset, bundled_ct, bundled_mri, index_folder
from data_prep import bundled as samples
from data_prep.bundled import CT_SOURCES
from data_prep.storage import packaged
from recon.errors import InputError

FILES = {
    "singlecoil_train": {"brain1.h5": 9, "colin27.h5": 40},
    "singlecoil_val": {"brain1_val.h5": 3},
    "singlecoil_test": {"brain2.h5": 10},
}


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return bundled_mri(tmp_path_factory.mktemp("samples"))


def test_has_the_subjects_in_their_splits(built):
    for folder, expected in FILES.items():
        volumes = index_folder(built / folder, "singlecoil", progress=False)
        assert {volume.path.name: volume.n_slices for volume in volumes} == expected
        for volume in volumes:
            assert volume.kspace_size == volume.image_size == (256, 256)
            assert volume.maximum == pytest.approx(1, abs=0.03)
            assert volume.acquisition.startswith("T1")
    assert {path.name for path in built.iterdir()} == set(FILES)


def test_says_what_it_was_made_from(built):
    with h5py.File(built / "singlecoil_val" / "brain1_val.h5") as file:
        assert file.attrs["simulated_from"] == "magnitude"
        assert file.attrs["patient_id"] == "brain1"


def test_brains_are_band_limited_and_objects_are_real_images(built):
    with h5py.File(built / "singlecoil_test" / "brain2.h5") as file, h5py.File(samples_file()) as images:
        target = file["reconstruction_esc"][:, :, 32:224]
        assert file["reconstruction_esc"][:, :, :32].max() < 0.05, "192 columns, padded to 256"
        original = images["brain2"][()].astype(float)
    spectrum = np.fft.fftshift(np.fft.fft(original, axis=-1), axes=-1)[..., 32:224]
    expected = np.abs(np.fft.ifft(np.fft.ifftshift(spectrum, axes=-1), axis=-1))
    assert np.corrcoef(target.ravel(), expected.ravel())[0, 1] > 0.995


def samples_file() -> Path:
    return Path(samples.__file__).parent / "samples" / "mri_brain.h5"


def test_is_made_once_and_is_the_same_everywhere(built, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*.h5")}
    assert bundled_mri(built.parent.parent) == built
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*.h5")} == before
    assert tree(bundled_mri(tmp_path)) == tree(built)


def test_default_place_is_the_cache(monkeypatch, cache):
    monkeypatch.setattr(samples, "SUBJECTS", samples.SUBJECTS[2:3])
    assert bundled_mri().parent == cache / "samples"


def test_name_changes_with_the_simulation(monkeypatch):
    name = packaged.packaged_hash(samples.MRI_SOURCES)
    assert name == packaged.packaged_hash(samples.MRI_SOURCES)
    original = packaged.packaged_file

    def edited(name):
        return Path(__file__) if name == "data_prep/fastmri/simulation.py" else original(name)

    monkeypatch.setattr(packaged, "packaged_file", edited)
    assert packaged.packaged_hash(samples.MRI_SOURCES) != name


# write or name what is computed
WITHOUT_CONTENT = {
    "recon/errors.py",
    "data_prep/storage/cache.py",
    "data_prep/lodopab/volume.py",
}


@pytest.mark.parametrize(("room", "sources"), [("fastmri", samples.MRI_SOURCES), ("lodopab", CT_SOURCES)])
def test_all_that_a_simulation_imports_is_a_source(room, sources):
    todo, found = [f"data_prep/{room}/simulation.py"], set()
    while todo:
        name = todo.pop()
        found.add(name)
        tree = ast.parse(packaged.packaged_file(name).read_text("utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        ours = [node for node in imports if str(node.module).startswith(("recon", "data_prep"))]
        parts = {part for node in ours for part in (node.module, *(f"{node.module}.{a.name}" for a in node.names))}
        files = {f"{part.replace('.', '/')}.py" for part in parts}
        files = {name for name in files if packaged.packaged_file(name).is_file()}
        todo += sorted(files - found - WITHOUT_CONTENT)
    assert found <= set(sources)


def test_multicoil(monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "SUBJECTS", samples.SUBJECTS[2:3])
    data = FastMRIDataset(bundled_mri(tmp_path, "multicoil"), "val", "multicoil", progress=False)
    assert (len(data), data.volumes[0].n_coils) == (3, 4)
    assert data[0].image.shape == (1, 256, 256)
    assert not data.coils_move(0), "the files keep their coil maps"


def _race(cache: Path, results: multiprocessing.SimpleQueue) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive the fork
    samples.SUBJECTS = samples.SUBJECTS[2:3]
    results.put(bundled_mri(cache))


def test_racing_processes_both_end_well(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=_race, args=(tmp_path, results)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    roots = {results.get() for _ in processes}
    assert len(roots) == 1
    assert list((tmp_path / "samples").iterdir()) == list(roots), "no temporary folder is left"
    assert list(tree(roots.pop())) == ["singlecoil_val/brain1_val.h5"]


def test_loser_of_a_race_keeps_the_winners_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "SUBJECTS", samples.SUBJECTS[2:3])
    write = samples._write

    def slow(folder, challenge):
        write(folder, challenge)
        monkeypatch.setattr(samples, "_write", write)
        bundled_mri(tmp_path)  # another process comes first

    monkeypatch.setattr(samples, "_write", slow)
    root = bundled_mri(tmp_path)
    assert list((tmp_path / "samples").iterdir()) == [root]


def test_full_disk_leaves_nothing(monkeypatch, tmp_path):
    limit = 3_000_000
    write_bytes = Path.write_bytes

    def full(path, content):
        if len(content) > limit:
            write_bytes(path, bytes(content[:limit]))
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(samples, "SUBJECTS", samples.SUBJECTS[2:])
    with pytest.raises(InputError, match="No space left on device") as caught:
        bundled_mri(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "RECON_CACHE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "samples").iterdir()) == []


def test_interruption_leaves_nothing(monkeypatch, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(samples, "write_fastmri", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bundled_mri(tmp_path)
    assert list((tmp_path / "samples").iterdir()) == []


def test_unwritable_cache_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"file.*cannot be written.*RECON_CACHE|cannot be written to .*file"):
        bundled_mri(tmp_path / "file")


def test_unknown_challenge():
    with pytest.raises(InputError, match="unknown challenge 'brain'"):
        bundled_mri(challenge="brain")


@pytest.fixture
def one_slice(monkeypatch):
    """All three persons, but one slice of each: the simulation has LoDoPaB's full size."""
    simulate = samples.simulate_observation
    monkeypatch.setattr(samples, "simulate_observation", lambda hu, *rest, **options: simulate(hu[:1], *rest))


def test_chests_become_lodopabs_files(one_slice, tmp_path, monkeypatch):
    root = bundled_ct(tmp_path)
    assert root.parent == tmp_path / "samples"
    expected = {"chest_a": "train", "chest_b": "validation", "chest_c": "test"}
    assert sorted(path.name for path in root.iterdir()) == sorted(
        f"{kind}_{part}_000.hdf5" for kind in ("ground_truth", "observation") for part in expected.values()
    )
    with h5py.File(samples_file().with_name("ct_chest.h5")) as chests:
        for subject, part in expected.items():
            with h5py.File(root / f"ground_truth_{part}_000.hdf5") as file:
                hu = (file["data"][0].T * 81.35858 - 20) * 1000 / 19.98
            original = np.clip(chests[subject][0], -1001, 3071)
            assert np.abs(hu - original - 0.5).max() < 0.6, "in HU, transposed as LoDoPaB's"
            with h5py.File(root / f"observation_{part}_000.hdf5") as file:
                assert file["data"].shape == (1, 1000, 513)
    data = LoDoPaBDataset(root, "test", progress=False)
    sample = data[0]
    assert sample.image.shape == (1, 384, 384)
    noise = (sample.image * sample.std - sample.target).square().mean()
    assert 25 < 10 * torch.log10(sample.data_range**2 / noise) < 40, "dB of the FBP"
    assert torch.equal(data.moved(0, (0, 0)).image, sample.image)
    monkeypatch.setattr(samples, "simulate_observation", None)
    assert bundled_ct(tmp_path) == root, "made once"


def test_interrupted_ct_leaves_nothing(monkeypatch, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(samples, "simulate_observation", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bundled_ct(tmp_path)
    assert list((tmp_path / "samples").iterdir()) == []


def test_name_of_the_ct_changes_with_the_physics(monkeypatch):
    original = packaged.packaged_file
    name = packaged.packaged_hash(samples.CT_SOURCES)
    for edited in samples.CT_SOURCES:
        monkeypatch.setattr(packaged, "packaged_file", lambda n, e=edited: Path(__file__) if n == e else original(n))
        assert packaged.packaged_hash(samples.CT_SOURCES) != name
