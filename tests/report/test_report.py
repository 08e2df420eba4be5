"""The page: complete, true to the dataset, safe whatever a repository says, and readable by everyone."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from git_starcoder.checks import Outcome, check
from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from git_starcoder.evals.compressors import PPM_GOING_ON
from git_starcoder.output import files
from git_starcoder.parse.own_output import recognise_own_output
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS
from git_starcoder.report import report, repository
from git_starcoder.report.statistics import MAX_AGE_DAYS, count_rows
from toy import code_base

BUILD_OPTIONS = ("-r", "elite", "--set", "window.size=[96,256]", "--set", "window.vocab_size=600", "--set", "augment.git_diff=1.0",
         "--set", "augment.ast_based=1.0", "--set", "augment.cross_file_context=1.0")  # fmt: skip
EVIL = "<script>alert(1)</script>]]>-->\"'&amp;<img src=x onerror=alert(2)>\x1b[31m\u202egpj$x_{2}$http://evil.example/\ud800"
"""What an attacker would call a file; as it comes out of JSON, so without what JSON cannot hold."""
SAFE = EVIL.replace("\ud800", "")
VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use"}


class Page(HTMLParser):
    """A page's tags with their attributes, its text by tag, and whether tags are closed in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text, self.crossed = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), tuple(self.open)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.crossed.append((tag, self.getpos()))

    def handle_data(self, data):
        self.text.append((self.open[-1] if self.open else "", data))

    def all(self, *names):
        return [attributes for tag, attributes, _ in self.tags if tag in names]

    def texts(self, tag):
        return [data for inside, data in self.text if inside == tag]


@pytest.fixture(scope="module")
def dataset_folder(repo_maker, tmp_path_factory):
    first = (
        code_base(24)
        | {
            f"shop/part{n}.py": f'"""Part."""\n\nfrom shop.part{n % 3} import total{n % 3}\n\n\n'
            + "".join(
                f"def total{n if not k else f'{n}_{k}'}(items: list[int]) -> int:\n    result{k} = {n}\n    for item in items:\n"
                f"        result{k} += item * {k * n + 1}\n    return result{k}\n\n\n"
                for k in range(6)
            )
            for n in range(12)
        }
        | {"shop/__init__.py": ""}
    )
    paths = sorted(path for path in first if path.endswith(".py"))
    second = {path: first[path].replace("limit", "bound") for path in paths[:3]}
    repo = repo_maker([first, second, {paths[-1]: first[paths[-1]] + "\n\nEXTRA = 1\n"}])
    out = tmp_path_factory.mktemp("reported") / "out"
    assert main(["build", str(repo), "-o", str(out), "-j", "1", "-q", *BUILD_OPTIONS]) == 0
    return out


@pytest.fixture(scope="module")
def evil(dataset_folder, tmp_path_factory):
    """The same dataset with all that a repository or its author says replaced."""
    folder = tmp_path_factory.mktemp("evil") / "out"
    shutil.copytree(dataset_folder, folder)
    for split in SPLITS:
        path = folder / f"training_data_{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            about = row["metadata"]
            about["source_file"] = f"{SAFE}/{about['source_file']}"
            about["language"] = SAFE
            about["role"] = f"{about['role']}{SAFE}"
            about["kind"] = SAFE
            about["augmentation_type"] = {"ast_based": SAFE}.get(about["augmentation_type"], about["augmentation_type"])
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, keys in (("imports.jsonl", ("from", "to", "from_split")), ("drops.jsonl", ("id", "because"))):
        path = folder / name
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text(
            "".join(json.dumps({**line, **{key: SAFE + str(line.get(key)) for key in keys}}) + "\n" for line in lines)
        )
    for name in ("manifest.json", "dataset_metadata.json"):
        path = folder / name
        path.write_text(
            path.read_text()
            .replace('"git:', json.dumps(SAFE)[:-1] + "git:")
            .replace("not_drawn", json.dumps(SAFE)[1:-1])
        )
    return folder


@pytest.fixture(scope="module")
def model_folder(dataset_folder, tmp_path_factory):
    """What `train` and `eval` leave."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    folder.mkdir()
    record = {"schema": "git-starcoder/model/1", "dataset": Dataset.open(dataset_folder).digest, "size": "tiny", "parameters": 5,
              "config": {"batch": 2048, "compile": None, "tensorboard": True}, "ledger": {"trained": 1234567},
              "result": {"steps": 3, "loss": 3.0, "stopped": "budget"}}  # fmt: skip
    (folder / "training.json").write_text(json.dumps(record))
    steps = [
        {"step": step, "seconds": 1.0, "tokens": 100 * step, "loss": 9.0 / step, "learning_rate": 0.1}
        for step in (1, 2, 3)
    ]
    looks = [{"step": step, "seconds": 1.0, "held_out": 4.0 / step} for step in (1, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps + looks))
    score = {"eval": "bits_per_byte", "measure": "bits per byte", "subject": "the model", "value": 1.25, "low": 1.0,
             "high": 1.5, "groups": 9, "over": 1000, "files": 12, "note": "", "by": "", "group": ""}  # fmt: skip
    alone = {"low": None, "high": None, "files": 1, "groups": 1, "over": 10}
    scores = [score, {**score, "subject": SAFE, "value": 2.5, **alone, "note": SAFE}]
    scores += [
        {**score, "measure": "perplexity", "value": 31.5},
        {**score, "measure": "next line, exact match", "value": 0.5},
    ]
    for by in ("kind", "language", "role"):
        scores += [
            {**score, "by": by, "group": SAFE, **alone},
            {**score, "by": by, "group": "most of it", "value": 1.125},
        ]
    values = {"split": "test", "files": 2, "of": 3, "own": True, "dataset": Dataset.open(dataset_folder).digest, "scores": scores,
              "comparisons": [],
              "tokenizer": {"entries": 600, "digest": "0123456789", "bytes_per_token": 2.5},
              "skipped": {"fill_in_the_middle": f"{SAFE} is why"}}  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def html(dataset_folder, model_folder):
    scores = json.loads((model_folder / "scores.json").read_text())
    return report(Dataset.open(dataset_folder), model_folder=model_folder, scores=scores)


@pytest.fixture(scope="module", params=["honest", "evil"])
def page(request, html, evil):
    return Page(html if request.param == "honest" else report(Dataset.open(evil)))


def test_tags_close_in_order(page):
    assert page.crossed == []
    assert page.open == []


def test_nothing_comes_from_outside_and_nothing_runs(page):
    for tag, attributes, _ in page.tags:
        assert tag not in {"script", "img", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"href", "src", "srcset", "action", "xlink:href"}:
                assert value.startswith("#") or value == "data:,"
            if name in {"style", "fill", "clip-path"}:
                assert all(found.startswith("#") for found in re.findall(r"url\(\"?([^)\"]*)", value or ""))
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"@import|url\(", "".join(page.texts("style")))


def test_what_deceives_is_written_out(evil):
    html = report(Dataset.open(evil))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    text = "".join(data for _, data in Page(html).text)
    assert "<script>alert(1)</script>]]>-->\"'&amp;<img src=x onerror=alert(2)>\\x1b[31m\\u202egpj$x_{2}$" in text


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = Counter(attributes["id"] for _, attributes, _ in page.tags if attributes.get("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    for _, attributes, _ in page.tags:
        wanted = [*(attributes.get("aria-labelledby") or "").split()]
        wanted += [attributes["href"][1:]] if (attributes.get("href") or "").startswith("#") else []
        wanted += re.findall(r"url\(#([^)]*)\)", " ".join(value or "" for value in attributes.values()))
        assert [name for name in wanted if name not in ids] == []


def test_landmarks_and_headings_are_in_order(page):
    names = [tag for tag, _, _ in page.tags]
    assert [names.count(tag) for tag in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(name[1]) for name in names if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.all("section")) == names.count("h2") >= 9


def test_pictures_have_a_title_a_description_and_a_table(page):
    pictures = page.all("svg")
    assert len(pictures) >= 12
    assert all(one["role"] == "img" and one["aria-labelledby"] and one["viewbox"] for one in pictures)
    assert all(data.strip() for data in page.texts("desc"))
    assert len(page.texts("desc")) == len(pictures)
    assert len(page.all("caption")) == len(page.all("table")) > len(pictures)
    assert all(one["scope"] in {"col", "row"} for one in page.all("th"))
    assert page.texts("text")  # text stays text


def test_the_page_is_small_and_the_same_again(dataset_folder, model_folder, html):
    assert len(html.encode()) <= 3_000_000
    scores = json.loads((model_folder / "scores.json").read_text())
    assert report(Dataset.open(dataset_folder), model_folder=model_folder, scores=scores) == html


def cells(html):
    """The rows of each table, by its caption."""
    found = {}
    for table in re.findall(r"<table[^>]*>.*?</table>", html, re.DOTALL):
        caption = re.search(r"<caption>(.*?)</caption>", table)[1]
        found[caption] = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    return found


def test_the_steps_are_those_of_the_manifest(dataset_folder, html):
    tables = cells(html)
    steps = Dataset.open(dataset_folder).manifest["steps"]
    assert [[row[0], *row[1:4]] for row in tables["What each step kept"][1:]] == [
        [step["step"], f"{step['seen']:,}", f"{step['kept']:,}", f"{sum(step['dropped'].values()):,}"] for step in steps
    ]
    rows = {(row[0], row[1]): row[3] for row in tables["Drops by reason"][1:]}
    assert rows == {
        (step["step"], reason.replace("_", " ")): f"{count:,}"
        for step in steps
        for reason, count in step["dropped"].items()
    }


def test_sizes_are_those_of_the_rows(dataset_folder, html):
    dataset = Dataset.open(dataset_folder)
    counts = {
        "split": Counter(),
        "window_size": Counter(),
        "augmentation_type": Counter(),
        "language": Counter(),
        "role": Counter(),
    }
    tokens, weight = Counter(), Counter()
    for split in SPLITS:
        for row in dataset.rows(split):
            for key, count in counts.items():
                count[str(row.metadata[key])] += 1
            tokens[split] += row.metadata["length"] - row.context_length
            weight[row.metadata["source_file"]] += (
                row.metadata["weight"] * (row.metadata["length"] - row.context_length) * (split == "train")
            )
    tables = cells(html)
    for key, caption in zip(
        counts, ("By split", "By window size", "By technique", "By language", "By role"), strict=True
    ):
        assert {row[0]: int(row[1].replace(",", "")) for row in tables[caption][1:]} == dict(counts[key])
    assert {row[0]: int(row[2].replace(",", "")) for row in tables["By split"][1:]} == dict(tokens)
    heaviest = next(table for caption, table in tables.items() if caption.startswith("The ") and "heaviest" in caption)
    assert heaviest[1][0] == min(weight, key=lambda path: (-weight[path], path))
    assert heaviest[1][-1] == f"{weight[heaviest[1][0]] / sum(weight.values()):.1%}"


def test_samples_stand_beside_their_original(html):
    samples = html[html.index(">Sample rows<") :]
    article = samples[samples.index("<h3>ast_based</h3>") :].split("</article>")[0]
    texts = re.findall(r"<code>(.*?)</code>", article, re.DOTALL)
    assert len(texts) == 2
    assert all("<mark>" in text for text in texts)
    before, after = (re.sub(r"<mark>.*?</mark>", "", text, flags=re.DOTALL) for text in texts)
    assert before == after
    framed = samples[samples.index("<h3>git_diff</h3>") :].split("</article>")[0]
    assert '<span class="control">&lt;commit_msg&gt;</span>' in framed
    assert '<span class="head">' in framed


@pytest.mark.parametrize("holdout", ["files", "commits"])
def test_rows_with_a_header_or_scored_lines_repeat_nothing(repo_maker, tmp_path, holdout):
    first = code_base(24)
    paths = sorted(path for path in first if path.endswith(".py"))[:6]
    later = [{path: f"{first[path]}\nNUMBERS = {list(range(n * 999, n * 999 + 99))}\n"} for n, path in enumerate(paths)]
    repo = repo_maker([first, *later])
    settings = ("window.size=256", "window.vocab_size=600", f"split.holdout={holdout}")
    dataset = build(repo, Recipe.load("natural", settings), tmp_path / "out")
    assert any("scored" in metadata for metadata in dataset.row_metadata("test")) == (holdout == "commits")
    tables = cells(report(dataset))
    assert tables["How often windows of each size show a token"][-1] == ["all", "1.00"]
    assert tables["Duplicate rows"][-1][1:] == ["0", "0.0%"]
    tokens = sum(
        metadata["length"] - metadata["context"] for split in SPLITS for metadata in dataset.row_metadata(split)
    )
    assert f"The average over the {tokens:,} tokens" in report(dataset)


def test_a_leak_is_seen(dataset_folder, tmp_path):
    shutil.copytree(dataset_folder, tmp_path / "out")
    train, val = (tmp_path / "out" / f"training_data_{split}.jsonl" for split in ("train", "val"))
    train.write_bytes(train.read_bytes() + val.read_bytes().splitlines(keepends=True)[0])
    table = cells(report(Dataset.open(tmp_path / "out")))["Held-out content in the training split"]
    assert [row[:2] for row in table[1:]] == [
        ["held-out files", "1"],
        ["held-out leak groups", "1"],
        ["held-out rows", "1"],
    ]
    honest = cells(report(Dataset.open(dataset_folder)))["Held-out content in the training split"]
    assert [row[1] for row in honest[1:]] == ["0", "0", "0"]


def test_the_map_is_filled_by_weight():
    root = repository.build_tree(
        {"a/b.py": (50.0, "core"), "a/c/d.py": (25.0, "test"), "e.py": (25.0, "docs"), "none.py": (0.0, "docs")}
    )
    boxes = [box for box in repository.treemap_boxes(root) if not box.is_heading]
    areas = {box.node.path: box.width * box.height for box in boxes}
    assert set(areas) == {"a/b.py", "a/c/d.py", "e.py"}
    assert areas["e.py"] == pytest.approx(repository.TREEMAP_WIDTH * repository.TREEMAP_HEIGHT / 4)
    for one in boxes:
        assert -1e-6 <= one.x <= one.x + one.width <= repository.TREEMAP_WIDTH + 1e-6
        for other in boxes:
            apart = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            below = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert one is other or apart < 1e-6 or below < 1e-6


def test_small_files_are_drawn_as_one():
    root = repository.build_tree({"large.py": (1e6, "core"), **{f"small{n}.py": (1.0, "test") for n in range(9)}})
    assert [box.node.path for box in repository.treemap_boxes(root)] == ["9 more", "large.py"]
    assert next(repository.treemap_boxes(root)).node.file_count == 9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight", -1),
        ("weight", None),
        ("length", 10**6),
        ("window_size", 0),
        ("age_days", "x"),
        ("language", None),
        ("role", 3),
    ],
)
def test_a_damaged_row_is_named(dataset_folder, tmp_path, capsys, key, value):
    shutil.copytree(dataset_folder, tmp_path / "out")
    train = tmp_path / "out" / "training_data_train.jsonl"
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    if value is None:
        del rows[2]["metadata"][key]
    else:
        rows[2]["metadata"][key] = value
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = main(["report", str(tmp_path / "out"), "-o", str(tmp_path / "page.html"), "--no-check", "-q"])
    if key == "role" and value == 3:  # a word like another
        assert code == 0
    else:
        assert code == 2
        assert "training_data_train.jsonl:3" in capsys.readouterr().err
        assert not (tmp_path / "page.html").exists()


def test_ages_of_any_time_are_drawn(dataset_folder, tmp_path):
    shutil.copytree(dataset_folder, tmp_path / "out")
    train = tmp_path / "out" / "training_data_train.jsonl"
    train.write_text(re.sub(r'"age_days":\d+', f'"age_days":{10**12}', train.read_text(), count=1))
    assert MAX_AGE_DAYS in {day.age_days for day in count_rows(Dataset.open(tmp_path / "out")).by_age}
    assert "Activity over time" in report(Dataset.open(tmp_path / "out"))


@pytest.mark.parametrize(
    "date", ["0001-01-01T00:00:00+00:00", "0001-03-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"]
)
@pytest.mark.parametrize("age", [0, MAX_AGE_DAYS])
def test_the_first_and_the_last_date_are_drawn(dataset_folder, tmp_path, date, age):
    shutil.copytree(dataset_folder, tmp_path / "out")
    for split in SPLITS:
        path = tmp_path / "out" / f"training_data_{split}.jsonl"
        path.write_text(re.sub(r'"age_days":\d+', f'"age_days":{age}', path.read_text()))
    path = tmp_path / "out" / "dataset_metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"creation_date": date}))
    assert "Activity over time" in report(Dataset.open(tmp_path / "out"))


def test_one_row_is_enough(dataset_folder, tmp_path):
    shutil.copytree(dataset_folder, tmp_path / "out")
    for split in SPLITS:
        path = tmp_path / "out" / f"training_data_{split}.jsonl"
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] if split == "train" else b"")
    (tmp_path / "out" / "imports.jsonl").write_bytes(b"")
    assert Page(report(Dataset.open(tmp_path / "out"))).crossed == []


def test_the_scores_are_drawn_and_every_figure_is_in_a_table(html):
    tables = cells(html)
    assert tables["Bits per byte on 2 of 3 test files"][1][2:] == ["1.250", "1.000", "1.500"]
    assert tables["Bits per byte on 2 of 3 test files"][2][2:] == ["2.500", "", ""]
    perplexity = "Perplexity per token (tokenizer 01234567: 600 entries, 2.50 bytes per token)"
    assert tables[perplexity][1] == ["the model", "31.500", "1.000", "1.500"]
    for by in ("kind of row", "language", "role"):
        table = tables[f"Bits per byte by {by}"]
        assert table[1] == ["most of it", "", "1.125", "1.000", "1.500", "1,000", "12"]
        assert table[2][2:] == ["1.250", "", "", "10", "1"]
    assert tables["Training configuration"][1:] == [["batch", "2,048"], ["compile", "None"], ["tensorboard", "True"]]
    assert tables["Token budget of the training"][1] == ["tokens in the loss", "1,234,567"]
    text = "".join(data for _, data in Page(html).text)
    assert text.count("Grey bars have fewer than 5 leak groups") == 3
    assert "most of it, 12 files" in text
    assert "No fill in the middle: <script>" in text
    assert "measured on another dataset" not in text


def test_scores_of_another_dataset_are_said_to_be(dataset_folder, model_folder):
    scores = json.loads((model_folder / "scores.json").read_text())
    output = report(Dataset.open(dataset_folder), model_folder=model_folder, scores={**scores, "dataset": "another"})
    assert "These scores were measured on another dataset." in output


def test_a_model_without_scores_and_one_with_damaged_ones(dataset_folder, model_folder, tmp_path, capsys):
    shutil.copytree(model_folder, tmp_path / "model")
    arguments = [
        "report",
        str(dataset_folder),
        str(tmp_path / "model"),
        "-o",
        str(tmp_path / "page.html"),
        "--no-check",
        "-q",
    ]
    (tmp_path / "model" / "scores.json").unlink()
    assert main(arguments) == 0
    assert "There are no scores yet" in (tmp_path / "page.html").read_text()
    (tmp_path / "model" / "scores.json").write_text('{"scores": [{"measure": "bits per byte"}]}')
    assert main(arguments) == 2
    assert "of an earlier version" in capsys.readouterr().err
    (tmp_path / "model" / "scores.json").write_text('{"comparisons": [], "scores": [{"measure": "bits per byte"}]}')
    assert main(arguments) == 2
    assert "damaged" in capsys.readouterr().err
    for name in ("scores.json", "metrics.jsonl"):
        (tmp_path / "model" / name).write_text("[" * 100_000)
        assert main(arguments) == 2
        assert "recursion" in capsys.readouterr().err


FEWER = "The network needs 18 % fewer bits than the best compressor (PPM); with 95 % confidence, between 15 and 20 %."
MORE = "The network needs 10 % more bits than the best compressor (PPM); with 95 % confidence, between 5 and 20 %."
UNCLEAR = "The network needs about as many bits as the best compressor (PPM): the difference may be chance."
ALONE = "50 % fewer bits than the best compressor (PPM). All files resemble each other, so this may be chance."


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [((0.82, 0.8, 0.85), FEWER), ((1.1, 1.05, 1.2), MORE), ((0.98, 0.9, 1.01), UNCLEAR), ((0.5, None, None), ALONE)],
)
def test_the_result_is_one_picture_and_one_sentence(dataset_folder, model_folder, pair, sentence):
    scores = json.loads((model_folder / "scores.json").read_text())
    score = scores["scores"][0]
    subjects = {"network": 1.0, "untrained network": 5.0}
    compressors = {"xz": 1.4, "PPM": 1.2, PPM_GOING_ON: 1.1}
    scores["scores"] = [
        {**score, "subject": name, "value": value, "eval": key}
        for key, group in {"bits_per_byte": subjects, "compressors": compressors}.items()
        for name, value in group.items()
    ]
    scores["comparisons"] = [
        {"subject": "network", "reference": name, "ratio": ratio, "low": low, "high": high, "groups": 9}
        for name, (ratio, low, high) in {"xz": (0.1, 0.1, 0.1), "PPM": pair, PPM_GOING_ON: (0.1, 0.1, 0.1)}.items()
    ]
    page = report(Dataset.open(dataset_folder), model_folder=model_folder, scores=scores)
    assert sentence in "".join(data for _, data in Page(page).text)
    tables = cells(page)
    assert len(tables["Bits per byte on 2 of 3 test files"]) == 6
    shares = tables["Bits as a share of those of another on the same files (below 1: fewer)"]
    assert [row[1] for row in shares[1:]] == ["xz", "PPM", PPM_GOING_ON]
    description = re.search(r'<desc id="result-about">(.*?)</desc>', page)[1]
    assert "network 1.000" in description
    assert "untrained" not in description


def test_the_command_writes_a_page_and_only_over_its_own(dataset_folder, model_folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    arguments = ["report", str(dataset_folder), str(model_folder), "-o", str(out), "--no-check", "--json", "-q"]
    assert main(arguments) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["bytes"] == out.stat().st_size
    assert recognise_own_output(out.read_bytes()).description == "a report"
    assert "Bits per byte on 2 of 3 test files" in out.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert main(arguments) == 0
    out.write_text("mine")
    assert main(arguments) == 2
    assert out.read_text() == "mine"
    assert main([*arguments[:-4], str(tmp_path / "no" / "page.html"), "--no-check"]) == 2


def test_a_link_stays_and_the_page_lies_where_it_points(dataset_folder, tmp_path, capsys):
    link, page = tmp_path / "link.html", tmp_path / "www" / "page.html"
    arguments = ["report", str(dataset_folder), "--no-check", "-q", "-o", str(link)]
    page.parent.mkdir()
    link.symlink_to(page)
    assert main(arguments) == 2
    assert "is not a git-starcoder report, but a link to" in capsys.readouterr().err
    assert main([*arguments[:-1], str(page)]) == 0
    page.chmod(0o640)
    before = page.stat().st_ino
    assert main(arguments) == 0
    assert link.readlink() == page
    assert page.stat().st_ino != before
    assert page.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    page.write_text("mine")
    assert main(arguments) == 2
    assert page.read_text() == "mine"


def test_a_full_disk_leaves_the_page_that_was_there(dataset_folder, tmp_path, capsys, monkeypatch):
    page = tmp_path / "page.html"
    arguments = ["report", str(dataset_folder), "--no-check", "-o", str(page)]
    assert main(arguments) == 0
    before = page.read_bytes()

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "flush_to_disk", full)
    assert main(arguments) == 2
    assert f"cannot write '{page}': No space left on device" in capsys.readouterr().err
    assert page.read_bytes() == before
    assert list(tmp_path.iterdir()) == [page]


def test_a_folder_that_is_no_model_is_named_before_the_checks(dataset_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("git_starcoder.checks.check", lambda *_, **__: pytest.fail("the checks were run"))
    assert main(["report", str(dataset_folder), str(tmp_path), "-o", str(tmp_path / "page.html")]) == 2
    assert f"'{tmp_path}' is not a model: it has no training.json" in capsys.readouterr().err


def test_the_certificate_is_what_the_checks_measured(dataset_folder):
    outcomes = list(check(Dataset.open(dataset_folder)))
    known = {outcome.check: outcome.certificate for outcome in outcomes if outcome.certificate}
    tables = cells(report(Dataset.open(dataset_folder), outcomes))
    rows = dict(tables["Held-out runs of 32 tokens that are in training"][1:])
    assert rows["this dataset"] == f"{known['overlap']['overlap']:.2%}"
    assert rows["random splits, mean"] == f"{known['overlap']['floor']:.2%}"
    assert len(rows) == 4 + len(known["overlap"]["draws"])
    crossing = {row[0]: row[1:3] for row in tables["Held-out content in the training split"][1:]}
    assert crossing["held-out files"] == ["0", f"{known['leak']['files']['held_out']:,}"]
    assert crossing["near-duplicate files across splits"] == ["0", f"{known['near_files']['compared']:,}"]
    assert [row[0] for row in tables["Checks"][1:]] == [outcome.check for outcome in outcomes]


def test_results_of_the_checks_are_on_the_page(dataset_folder):
    outcomes = [
        Outcome("weights", f"Every {SAFE}.", figure="1, 2"),
        Outcome("near", "No.", figure="small", skipped=True),
        Outcome("rows", "All.", finding_count=3),
    ]
    table = cells(report(Dataset.open(dataset_folder), outcomes))["Checks"]
    assert [row[:2] for row in table[1:]] == [["weights", "kept"], ["near", "skipped"], ["rows", "broken"]]


def test_a_missing_library_is_named_before_the_work(dataset_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "squarify", None)
    assert main(["report", str(dataset_folder), "-o", str(tmp_path / "page.html")]) == 2
    assert "squarify" in (output := capsys.readouterr().err)
    assert "[report]" in output


def luminance(colour):
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough_in_light_and_dark(html):
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(themes) == 2
    for theme in themes:
        for text, ground in (("ink", "paper"), ("faint", "paper"), ("ink", "panel"), ("faint", "panel"), ("link", "paper"),
                             ("ink", "mark"), ("four", "panel")):  # fmt: skip
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        for name in (
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
        ):  # they have labels of the colour of the page on them
            assert contrast(theme[name], theme["paper"]) >= 4.5, name


def test_no_colour_is_left_that_does_not_follow_the_theme(html):
    pictures = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    tags = "".join(re.findall(r"<[^<>]*>", pictures))
    assert "var(--ink)" in tags
    assert re.findall(r"#[0-9a-f]{6}(?![0-9a-z-])", tags) == []
