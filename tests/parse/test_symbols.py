"""Signatures: generics, parameters, return types and visibility, on one line, without bodies or comments."""

from __future__ import annotations

import pytest

from git_starcoder.parse.symbols import LONGEST, functions
from git_starcoder.parse.tree import captures, parse

SOURCES = {
    "rust": """\
pub fn free<T: Clone>(a: &T, // first
    b: u8) -> Option<T> where T: Default { None }
pub(crate) async fn near() {}
#[inline]
impl S { fn hidden(&self) {} pub fn shown(&mut self) -> Result<(), E> { Ok(()) } }
trait T { fn must(&self) -> u8; }
""",
    "python": '''\
@deco
async def shown(a: int, *, b: str = "x") -> dict[str, int]:  # why
    """Doc."""
class C:
    def __init__(self): pass
    def _hidden(self,
                x): pass
''',
    "typescript": """\
export function shown<T>(a: T, b?: number): Promise<T> { return a }
function hidden() {}
export const arrow = async (x: number): Promise<void> => { f(x) };
const own = function (y: string) {};
class C { private p(): void {} q(x: string): number { return 1 } #r() {} s = (z: number) => z; }
interface I { m(a: string): void }
""",
    "tsx": "export const A = (p: P) => <div>{p.x}</div>;\nfunction B(): JSX.Element { return <A/> }\n",
    "javascript": "export default function shown(a, b) { return a }\nfunction* gen() {}\nclass C { p() {} #r() {} }\n",
    "go": """\
package p
func Shown[T any](a T, b ...int) (T, error) { return a, nil }
func (r *R) hidden() {}
type I interface { Do(x int) error }
""",
    "java": """\
public class X<T> { @Override public <U> U shown(final T a, @Ann int b) throws E { return null; }
  private X() {} void pack() {} }
interface I { int must(String s); private void no() {} }
""",
    "c": """\
static int hidden(int a, char *b) { return a; }
char *shown(void);
struct s *make(struct t x[2]) { return 0; }
int (*pointer)(int);
#ifdef X
int guarded(int a);
#endif
""",
    "cpp": """\
namespace n { template <typename T> T &pick(T &a) { return a; }
class K : B { int hidden() const; public: K(int a) : B(a) {} virtual ~K() = default;
  template <class U> void both(U u); protected: int prot(); };
struct P { int open(); private: int shut(); struct Q { int inner(); }; int still(); }; }
static int local() { return 0; }
""",
}
EXPECTED = {
    "rust": [
        "+ pub fn free<T: Clone>(a: &T, b: u8) -> Option<T> where T: Default",
        "- pub(crate) async fn near()",
        "- fn hidden(&self)",
        "+ pub fn shown(&mut self) -> Result<(), E>",
        "- fn must(&self) -> u8",
    ],
    "python": [
        '+ async def shown(a: int, *, b: str = "x") -> dict[str, int]',
        "+ def __init__(self)",
        "- def _hidden(self, x)",
    ],
    "typescript": [
        "+ export function shown<T>(a: T, b?: number): Promise<T>",
        "- function hidden()",
        "+ arrow = async (x: number): Promise<void>",
        "- own = function (y: string)",
        "- private p(): void",
        "+ q(x: string): number",
        "- #r()",
        "+ s = (z: number)",
        "+ m(a: string): void",
    ],
    "tsx": ["+ A = (p: P)", "- function B(): JSX.Element"],
    "javascript": ["+ export default function shown(a, b)", "- function* gen()", "+ p()", "- #r()"],
    "go": [
        "+ func Shown[T any](a T, b ...int) (T, error)",
        "- func (r *R) hidden()",
        "+ Do(x int) error",
    ],
    "java": [
        "+ public <U> U shown(final T a, int b) throws E",
        "- private X()",
        "- void pack()",
        "+ int must(String s)",
        "- private void no()",
    ],
    "c": [
        "- static int hidden(int a, char *b)",
        "+ char *shown(void)",
        "+ struct s *make(struct t x[2])",
        "+ int guarded(int a)",
    ],
    "cpp": [
        "+ template <typename T> T &pick(T &a)",
        "- int hidden() const",
        "+ K(int a)",
        "+ virtual ~K() = default",
        "+ template <class U> void both(U u)",
        "- int prot()",
        "+ int open()",
        "- int shut()",
        "+ int inner()",
        "- int still()",
        "- static int local()",
    ],
}


def symbols(text, key):
    code = parse(text.encode(), key)
    return functions(code, captures(code, "symbols"))


@pytest.mark.parametrize("key", SOURCES)
def test_signatures(key):
    found = symbols(SOURCES[key], key)
    assert [("+ " if one.visibility == "public" else "- ") + one.signature for one in found] == EXPECTED[key]


def test_names_and_lines():
    found = symbols(SOURCES["rust"], "rust")
    assert [(one.name, one.line) for one in found] == [
        ("free", 1), ("near", 3), ("hidden", 5), ("shown", 5), ("must", 6),
    ]  # fmt: skip
    assert [one.name for one in symbols("T *A::b(int c) { return 0; }\n", "cpp")] == ["A::b"]


def test_a_signature_without_end_is_cut():
    found = symbols(f"fn f({'a: u8, ' * 2_000}) {{}}", "rust")
    assert len(found[0].signature) == LONGEST


def test_source_with_errors_gives_what_can_be_told():
    assert "whole" in [one.name for one in symbols("fn whole(a: u8) {}\nfn broken(", "rust")]
