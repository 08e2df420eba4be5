"""Pointers to content that lies elsewhere, in every spelling, and texts that only look like them."""

import codecs

import pytest

from git_starcoder.text.encoding import DecodedText, Refusal, decode_file

OID = b"4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + OID + b"\nsize 12345\n"
KEY = b"SHA256E-s1048576--" + OID + b".dat"
DVC = b"outs:\n- md5: a304afb96060aad90176268345e10355\n  size: 14445097\n  hash: md5\n  path: data.xml\n"

POINTERS = {
    "lfs_pointer": [
        LFS,
        LFS.replace(b"\n", b"\r\n"),
        LFS.rstrip(),
        LFS.replace(b"\n", b"  \n") + b"\n",
        b"\n" + LFS,
        codecs.BOM_UTF8 + LFS,
        LFS.decode().encode("utf-16"),
        LFS.replace(b"git-lfs.github", b"hawser.github"),
        LFS.replace(b"https://git-lfs.github.com/spec/v1", b"http://git-media.io/v/2"),
        b"".join(reversed(LFS.splitlines(keepends=True))),
        LFS.replace(b"oid", b"ext-0-case sha256:" + OID + b"\next-1-rot13 sha256:" + OID + b"\noid"),
        LFS.replace(b"spec/v1", b"spec/v2"),
        LFS.replace(b"https:", b"http:"),
        LFS + b"x-is-locked true\n",
    ],
    "annex_pointer": [
        b"/annex/objects/" + KEY,
        b"/annex/objects/" + KEY + b"\n",
        b"/annex/objects/" + KEY + b"\r\n",
        b"\\annex\\objects\\" + KEY,
        b"/annex/objects/WORM-s3-m1289672605--a file.txt\n",
        b"/annex/objects/URL--http&c%%example.com%a.iso\n",
        b"/annex/objects/" + KEY + b"\n/annex/more\n",
        b"../.git/annex/objects/xK/9p/" + KEY + b"/" + KEY,
        b"..\\..\\.git\\annex\\objects\\xK\\9p\\" + KEY + b"\\" + KEY,
        b".git/modules/data/annex/objects/1f/2a/" + KEY + b"/" + KEY + b"\n",
    ],
    "fat_pointer": [b"#$# git-fat f1d2d2f924e986ac86fdf7b36c94bcdf32beec15                 1234\n"],
    "media_pointer": [b"f1d2d2f924e986ac86fdf7b36c94bcdf32beec15\n", b"f1d2d2f924e986ac86fdf7b36c94bcdf32beec15",
        b"# git-media\n" + OID + b"\n"],
    "bigstore_pointer": [b"bigstore\nsha256\n" + OID + b"\n"],
    "xet_pointer": [b"# xet version 0\nfilesize = 3\nhash = 'ab'\n"],
    "dvc_pointer": [DVC, b"md5: a304afb96060aad90176268345e10355\nfrozen: true\n" + DVC, DVC.replace(b"10355", b"10355.dir")],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "data"), [(kind, one) for kind, some in POINTERS.items() for one in some])
def test_pointers(kind, data):
    assert decode_file(data, max_line=65_536, mean_line=500) == Refusal(kind, "the content is not in the repository")


@pytest.mark.parametrize(
    "data",
    [
        b"A pointer looks like this:\n" + LFS,
        LFS + b"\nand this is what `oid` means\n",
        b"version https://git-lfs.github.com/spec/v1\nis the first line\n",
        LFS.replace(b"git-lfs.github.com", b"example.com"),
        b"size 3\noid sha256:ab\n",
        b"See /annex/objects for the keys\n",
        b"/annex/objects/\n",
        b"f1d2d2f924e986ac86fdf7b36c94bcdf32beec15  a.txt\n",
        b"f1d2d2f924e986ac86fdf7b36c94bcdf32beec15\nf1d2d2f924e986ac86fdf7b36c94bcdf32beec16\n",
        b"outs:\n- md5: x\n  path: a\nstages: {}\n",
        b"bigstore\nis large\n",
        LFS + b"# x\n" * 2000 + b"\n",
    ],
)
def test_texts_that_are_none(data):
    assert isinstance(decode_file(data, max_line=65_536, mean_line=500), DecodedText)
