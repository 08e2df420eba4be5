"""Functions with generics, parameters, return types and visibility, on one line; types and constants, short ones full."""

from __future__ import annotations

import pytest

from git_starcoder.parse.structure import MAX_FULL_DEFINITION_CHARACTERS, MAX_SIGNATURE_CHARACTERS, extract_symbols
from git_starcoder.parse.tree import parse, run_queries

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

DEFINITIONS = {
    "rust": """\
/// Doc.
#[derive(Debug)]
pub struct Config<T> {
    /// Name.
    pub name: String, // why
    #[serde(default)]
    pub size: usize,
}
enum E { A, B(u8) }
pub(crate) const MAX: usize = 10;
pub type R<T> = Result<T, E>;
impl<T> Config<T> { const Z: u8 = 1; pub fn new() -> Self { fn inner() {} } }
impl Q for a::Config<u8> { fn t(&self) {} }
pub trait Q { fn q(&self); }
""",
    "python": """\
MAX: int = 3
lower = 3
class Outer(Base):
    '''Doc.'''
    x: int = 0  # why
    def m(self): def_ = 1
    y: str
    class Inner:
        z = 1
    w = 2
class _Bare(Exception):
    pass
""",
    "go": """\
package p
const Limit = 10
const (
	A, B = 1, 2
	c = 3
)
var ErrX = errors.New("x")
type S struct {
	Name string // why
}
type I interface { Do(x int) error }
func (s *S) M() { const local = 1 }
func (S[T]) n() {}
""",
    "java": """\
@Ann public class X<T> extends Y {
  public static final int MAX = 3;
  int f;
  void m() {}
  enum E { A, B }
}
interface J { int K = 1; }
""",
    "c": """\
typedef struct { int x; int y; } Point;
struct s { int a; };
struct s *make(struct s *from);
#define MAX 10
#define GUARD_H
#define SQ(x) \\
  ((x)*(x))
""",
    "cpp": """\
template <class T> class K { public: int a; void m(); };
struct P { int x; };
using V = std::vector<int>;
void K::m() {}
template <class T> T K<T>::q(int a) {}
""",
    "javascript": "export const LIMIT = 10;\nconst own = 1;\nexport class C extends D { m() {} }\n",
    "typescript": """\
export interface A { x: string; y?: number }
export interface B { m(a: string): void; z: string }
type T = { a: string } | null;
export enum E { A, B }
export const C: Config = { a: 1 };
""",
    "tsx": "export type P = { x: number };\nexport const limit = 10;\n",
}
DEFINED = {
    "rust": [
        "+ type Config: pub struct Config<T> { pub name: String, pub size: usize, }",
        "- type E: enum E { A, B(u8) }",
        "- constant MAX: pub(crate) const MAX: usize = 10",
        "+ type R: pub type R<T> = Result<T, E>",
        "- constant Config.Z: const Z: u8 = 1",
        "+ function Config.new: pub fn new() -> Self",
        "- function new.inner: fn inner()",
        "- function Config.t: fn t(&self)",
        "+ type Q: pub trait Q",
        "- function Q.q: fn q(&self)",
    ],
    "python": [
        "+ constant MAX: MAX: int = 3",
        "+ type Outer: class Outer(Base): x: int = 0; y: str; w = 2",
        "+ function Outer.m: def m(self)",
        "+ type Outer.Inner: class Inner: z = 1",
        "- type _Bare: class _Bare(Exception)",
    ],
    "go": [
        "+ constant Limit: const Limit = 10",
        "+ constant A: const A, B = 1, 2",
        "- constant c: const c = 3",
        '+ constant ErrX: var ErrX = errors.New("x")',
        "+ type S: type S struct { Name string }",
        "+ type I: type I interface { Do(x int) error }",
        "+ function I.Do: Do(x int) error",
        "+ function S.M: func (s *S) M()",
        "- function S.n: func (S[T]) n()",
    ],
    "java": [
        "+ type X: public class X<T> extends Y",
        "+ constant X.MAX: public static final int MAX = 3",
        "- function X.m: void m()",
        "- type X.E: enum E { A, B }",
        "- type J: interface J { int K = 1; }",
        "- constant J.K: int K = 1",
    ],
    "c": [
        "+ type Point: typedef struct { int x; int y; } Point",
        "+ type s: struct s { int a; }",
        "+ function make: struct s *make(struct s *from)",
        "+ constant MAX: #define MAX 10",
        "+ constant SQ: #define SQ(x) ((x)*(x))",
    ],
    "cpp": [
        "+ type K: template <class T> class K",
        "+ function K.m: void m()",
        "+ type P: struct P { int x; }",
        "+ type V: using V = std::vector<int>",
        "+ function K.K::m: void K::m()",
        "+ function K.K<T>::q: template <class T> T K<T>::q(int a)",
    ],
    "javascript": [
        "+ constant LIMIT: export const LIMIT = 10",
        "+ type C: export class C extends D",
        "+ function C.m: m()",
    ],
    "typescript": [
        "+ type A: export interface A { x: string; y?: number }",
        "+ type B: export interface B",
        "+ function B.m: m(a: string): void",
        "- type T: type T = { a: string } | null",
        "+ type E: export enum E { A, B }",
        "+ constant C: export const C: Config = { a: 1 }",
    ],
    "tsx": ["+ type P: export type P = { x: number }", "+ constant limit: export const limit = 10"],
}


def symbols(text, key):
    code = parse(text.encode(), key)
    return extract_symbols(code, run_queries(code, "symbols"))


@pytest.mark.parametrize("key", SOURCES)
def test_signatures(key):
    found = [one for one in symbols(SOURCES[key], key) if one.kind == "function"]
    assert [("+ " if one.visibility == "public" else "- ") + one.signature for one in found] == EXPECTED[key]


@pytest.mark.parametrize("key", SOURCES)
def test_types_constants_and_owners(key):
    assert [
        f"{'+' if one.visibility == 'public' else '-'} {one.kind} {'.'.join(filter(None, (one.owner, one.name)))}: {one.signature}"
        for one in symbols(DEFINITIONS[key], key)
    ] == DEFINED[key]


LONG = {
    "rust": ("pub struct S {%s}", "    field_%d: u8,\n", "pub struct S"),
    "python": ("class S:\n%s", "    field_%d: int\n", "class S"),
    "go": ("package p\ntype S struct {%s}", "\n\tfield%d int\n", "type S struct"),
    "java": ("class S {%s}", "int field%d;\n", "class S"),
    "c": ("typedef struct {%s} S;", "int field%d;\n", "typedef struct S"),
    "cpp": ("struct S {%s};", "int field%d;\n", "struct S"),
    "javascript": ("export const S = {%s}", "field%d: 1,\n", "export const S"),
    "typescript": ("type S = {%s}", "field%d: number,\n", "type S"),
    "tsx": ("interface S {%s}", "field%d: number,\n", "interface S"),
}


@pytest.mark.parametrize("key", LONG)
def test_a_long_one_is_shown_without_what_is_in_it(key):
    around, line, expected = LONG[key]
    short, long = (symbols(around % "".join(line % at for at in range(count)), key) for count in (2, 200))
    assert (long[0].name, long[0].signature) == ("S", expected)
    assert len(expected) < len(short[0].signature) <= MAX_FULL_DEFINITION_CHARACTERS


def test_names_and_lines():
    found = symbols(SOURCES["rust"], "rust")
    assert [(one.name, one.line) for one in found if one.kind == "function"] == [
        ("free", 1), ("near", 3), ("hidden", 5), ("shown", 5), ("must", 6),
    ]  # fmt: skip
    assert [one.name for one in symbols("T *A::b(int c) { return 0; }\n", "cpp")] == ["A::b"]


def test_a_signature_without_end_is_cut():
    found = symbols(f"fn f({'a: u8, ' * 2_000}) {{}}", "rust")
    assert len(found[0].signature) == MAX_SIGNATURE_CHARACTERS


def test_source_with_errors_gives_what_can_be_told():
    assert "whole" in [one.name for one in symbols("fn whole(a: u8) {}\nfn broken(", "rust")]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (f"template <{'int A, ' * 400}int B> void f() {{}}\n", "cpp"),  # cut before the name
        ("class C { [[ 'a', /* which */ 'b' ]]() {} }\n", "javascript"),
    ],
)
def test_a_declaration_that_its_signature_does_not_name_is_none(text, language):
    assert all(one.name in one.signature for one in symbols(text, language))
    assert [one.name for one in symbols(f"{text}class D {{}};\n", language)][-1] == "D"
