from __future__ import annotations

import ast
import importlib
import linecache
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from ckptstore.hashing import describe_model
from ckptstore.hashing.encoding import digest
from ckptstore.hashing.syntax import plain_syntax
from tests.hashing_models import TwoLayers, import_file, model_from

BASE = """
class Net(nn.Module):
    rate = 2
    _table = (1, 2)

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.two = nn.Linear(2, 2)

    def forward(self, x):
        y = self.one(x)
        return self.helper(y) * self.factor + self.__hidden(y)

    def helper(self, x):
        return self.two(x) * self.rate

    @property
    def factor(self):
        return 3

    def __hidden(self, x):
        return self.fixed(x)

    @staticmethod
    def fixed(x):
        return x - 1

    @classmethod
    def unrelated(cls):
        return cls()
"""


def changed(old, new):
    assert old in BASE
    return BASE.replace(old, new)


@pytest.mark.parametrize(
    "text",
    [
        changed("y = self.one(x)", "y = self.two(x)"),
        changed("self.two(x) * self.rate", "self.one(x) * self.rate"),
        changed("return 3", "return 4"),
        changed("x - 1", "x - 2"),
        changed("return self.fixed(x)", "return self.fixed(x) + 0"),
        changed("rate = 2", "rate = 3"),
        changed("rate = 2", "rate = 2.0"),
        changed("    @property", "    @torch.no_grad()\n    def unused(self): pass\n    @property").replace(
            "    def helper", "    @torch.no_grad()\n    def helper"
        ),
    ],
    ids=["forward", "helper", "property", "static", "mangled", "constant", "kind of constant", "decorator"],
)
def test_what_the_forward_pass_runs_counts(tmp_path, text):
    before, after = describe_model(model_from(tmp_path, BASE)), describe_model(model_from(tmp_path, text))
    assert before.digest != after.digest
    assert [path for path in before.modules if before.modules[path] != after.modules[path]] == [""]
    assert set(before.sources.values()) == set(after.sources.values()) == {True}


@pytest.mark.parametrize(
    "text",
    [
        changed("y = self.one(x)", "# what this does\n        y = (self.one(  # here\n            x))"),
        changed("def forward(self, x):", 'def forward(self, x):\n        """Run."""'),
        changed("def forward(self, x):", "def forward(self, x: 'torch.Tensor') -> torch.Tensor:"),
        changed("y = self.one(x)", "y: torch.Tensor = self.one(x)\n        z: int\n        pass\n        'note'"),
        changed("class Net(nn.Module):", 'class Net(nn.Module):\n    """A net."""\n    other: int = 5\n'),
        changed("return cls()", "return None"),
        changed("_table = (1, 2)", "_table = (3,)"),
        "import math\n\n\n" + BASE + "\n\nclass Another:\n    pass\n",
        "from __future__ import annotations\n" + BASE,
    ],
    ids=["comment", "docstring", "annotation", "notes", "class", "not reached", "not used", "file", "future"],
)
def test_what_does_not_run_does_not_count(tmp_path, text):
    if text.startswith("from __future__"):
        path = tmp_path / "future_net.py"
        path.write_text("from __future__ import annotations\nimport torch\nfrom torch import nn\n" + BASE)
        model = import_file(path, "future_net").Net()
    else:
        model = model_from(tmp_path, text)
    assert describe_model(model).digest == describe_model(model_from(tmp_path, BASE)).digest


def test_leaving_source_out_leaves_all_of_it_out(tmp_path):
    one = describe_model(model_from(tmp_path, BASE), forward_source=False)
    other = describe_model(model_from(tmp_path, changed("y = self.one(x)", "y = x")), forward_source=False)
    assert one.digest == other.digest
    assert set(one.sources.values()) == {False}


def family(body, call="super().forward(x)"):
    return f"""
class Parent(nn.Module):
    def forward(self, x):
        return {body}

class Net(Parent):
    def forward(self, x):
        return {call} + self.more(x)

    def more(self, x):
        return x
"""


@pytest.mark.parametrize("call", ["super().forward(x)", "super(Net, self).forward(x)", "Parent.forward(self, x)"])
def test_a_parents_forward_counts_where_it_is_called(tmp_path, call):
    models = [model_from(tmp_path, family(body, call)) for body in ("x", "x * 2")]
    assert describe_model(models[0]).digest != describe_model(models[1]).digest


def test_a_parents_forward_that_is_not_called_does_not_count(tmp_path):
    models = [model_from(tmp_path, family(body, "x")) for body in ("x", "x * 2")]
    assert describe_model(models[0]).digest == describe_model(models[1]).digest


def test_an_override_that_a_forward_of_torch_reaches_counts(tmp_path):
    text = """
class Net(nn.TransformerEncoderLayer):
    def __init__(self):
        super().__init__(4, 2, 8)

    def _ff_block(self, x):
        return x * 1
"""
    models = [model_from(tmp_path, text), model_from(tmp_path, text.replace("x * 1", "x * 2"))]
    assert describe_model(models[0]).digest != describe_model(models[1]).digest


def test_a_call_of_its_own_counts(tmp_path):
    text = (
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(2, 2)\n    def __call__(self, x): return x"
    )
    models = [model_from(tmp_path, text), model_from(tmp_path, text.replace("return x", "return -x"))]
    assert describe_model(models[0]).digest != describe_model(models[1]).digest


DECORATED = """
import functools

def plain(function):
    def wrapper(*args):
        return function(*args)
    return wrapper

def wrapping(function):
    return functools.wraps(function)(lambda *args: function(*args))

class Net(nn.Module):
    @{decorator}
    def forward(self, x):
        return {body}
"""


@pytest.mark.parametrize("decorator", ["plain", "wrapping", "torch.no_grad()", "torch.compiler.disable"])
def test_a_decorated_forward_counts_with_its_decorator(tmp_path, decorator):
    texts = [DECORATED.format(decorator=decorator, body=body) for body in ("x", "x * 2")]
    descriptions = [describe_model(model_from(tmp_path, text)) for text in texts]
    undecorated = describe_model(model_from(tmp_path, texts[0].replace(f"    @{decorator}\n", "")))
    assert len({one.digest for one in [*descriptions, undecorated]}) == 3
    assert all(all(one.sources.values()) for one in descriptions)


def test_a_lambda_for_a_forward_counts(tmp_path):
    text = "class Net(nn.Module):\n    forward = lambda self, x: {}\n"
    descriptions = [describe_model(model_from(tmp_path, text.format(body))) for body in ("x", "-x")]
    assert descriptions[0].digest != descriptions[1].digest
    assert all(all(one.sources.values()) for one in descriptions)


def test_a_class_made_by_exec_has_no_source(tmp_path):
    made: dict[str, type[nn.Module]] = {}
    exec("from torch import nn\nclass Net(nn.Module):\n    def forward(self, x): return x", made)
    description = describe_model(made["Net"]())
    assert list(description.sources.values()) == [False]
    assert description.digest == describe_model(made["Net"](), forward_source=False).digest


def test_a_file_edited_since_it_was_imported_is_not_used(tmp_path):
    model = model_from(tmp_path, BASE)
    path = sys.modules[type(model).__module__].__file__
    assert path is not None
    with open(path, "w") as file:  # noqa: PTH123
        file.write(changed("y = self.one(x)", "y = self.two(x)"))
    assert list(describe_model(model).sources.values()) == [False]


def test_a_file_edited_after_the_first_sight_does_not_matter(tmp_path):
    model = model_from(tmp_path, BASE)
    before = describe_model(model)
    path = sys.modules[type(model).__module__].__file__
    assert path is not None
    with open(path, "w") as file:  # noqa: PTH123
        file.write("raise RuntimeError\n")
    linecache.checkcache(path)
    assert describe_model(model) == before


def test_a_file_that_is_gone_gives_no_source(tmp_path):
    model = model_from(tmp_path, BASE)
    path = sys.modules[type(model).__module__].__file__
    assert path is not None
    (tmp_path / path).unlink()
    assert list(describe_model(model).sources.values()) == [False]


def test_a_reloaded_module_is_read_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "reloaded_net.py"
    path.write_text("from torch import nn\nimport torch\n" + BASE)
    module = importlib.import_module("reloaded_net")
    before = describe_model(module.Net())
    path.write_text("from torch import nn\nimport torch\n" + changed("y = self.one(x)", "y = self.two(x) # longer"))
    importlib.invalidate_caches()
    after = describe_model(importlib.reload(module).Net())
    assert before.digest != after.digest
    assert list(after.sources.values()) == [True]


def test_a_method_replaced_on_the_class_or_the_instance_counts(tmp_path):
    model = model_from(tmp_path, BASE)
    before = describe_model(model).digest

    def other(self, x):
        return x

    model.forward = types.MethodType(other, model)
    on_instance = describe_model(model)
    del model.forward
    assert describe_model(model).digest == before
    type(model).forward = other
    assert describe_model(model).digest == on_instance.digest != before
    assert list(on_instance.sources.values()) == [True]


def test_a_script_that_is_run_has_the_hash_of_the_script_imported(tmp_path):
    path = tmp_path / "train_net.py"
    path.write_text(
        "import torch\nfrom torch import nn\n" + BASE + "\n"
        "if __name__ == '__main__':\n    from ckptstore.hashing import describe_model\n"
        "    print(describe_model(Net()))\n"
    )
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, check=True, text=True).stdout
    imported = describe_model(import_file(path, "train_net").Net())
    assert imported.digest in ran
    assert "{'__main__.Net': True}" in ran
    assert dict(imported.sources) == {"train_net.Net": True}


def test_classes_of_tests_and_functions_have_a_source():
    class Local(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs

    assert set(describe_model(nn.Sequential(Local(), TwoLayers())).sources.values()) == {True}


SAID = """
@decorated(1)
async def run(self, a, /, b: int = 2, *rest, c=None, **more) -> None:
    '''Say it.'''
    global total
    text = f"a{a!r:>{b}}" 'b' f"{c=}" rf"\\d"
    with self.lock as lock, open(a): x = [i async for i in a if i]
    match a:
        case {"k": [1, *_], **others} | Point(x=0) if others: return ...
        case None: raise Error from None
    try: y = (z := -1j) ** 1e-5 if not b else lambda q, *, r=b"\\0": q @ r
    except* (A, B) as e: del e[1:2, ::3], x.y
    else: pass
    finally: x.y += await b
    for i, (j, *k) in enumerate({1, *a}): continue
    while True: assert a < b <= 3, "text"; break
    return {**more, "a": 10**2, True: u"x"}, not 1_000, *rest
"""


def test_the_syntax_of_a_function_is_that_of_the_first_release():
    assert digest(plain_syntax(ast.parse(SAID))) == "4b4950bbd92f35dfd1a574fbef0da45d9a16a0e5ef701b0a8a1b492077b89a42"


def test_text_cut_in_other_places_is_the_same_text():
    def said(text):
        return plain_syntax(ast.parse(text, mode="eval"))

    assert said('f"ab{x}c"') == said("f'a' 'b' f'{x}' 'c'")
    assert said('f"ab{x}c"') != said('f"a{x}bc"')
    assert said("f'{x}'") != said("f'{x!r}'") != said("f'{x:r}'")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("None", "'None'"),
        ("1", "1.0"),
        ("1", "True"),
        ("...", "'...'"),
        ("1j", "['complex', 0.0, 1.0]"),
        ("b'a'", "'a'"),
        ("f(a)", "f(*a)"),
        ("a[b]", "a(b)"),
        ("(a, b)", "[a, b]"),
        ("a < b", "a > b"),
        ("-1", "+1"),
        ("{**a}", "{None: a}"),
        ("lambda a: b", "lambda a=b: b"),
        ("lambda a, b=1: 0", "lambda a=1, b=1: 0"),
        ("x if y else z", "y if x else z"),
        ("lambda *, a, b=1: 0", "lambda *, a=1, b: 0"),
        ("[]", "[[]]"),
        ("f()", "f"),
        ("{}", "[]"),
    ],
)
def test_expressions_that_differ_say_different_things(one, other):
    assert digest(plain_syntax(ast.parse(one, mode="eval"))) != digest(plain_syntax(ast.parse(other, mode="eval")))


def test_a_counter_on_the_class_is_no_constant(tmp_path):
    model = model_from(tmp_path, changed("rate = 2", "rate = 2\n    calls = 0").replace("x - 1", "x - Net.calls"))
    counting = changed("rate = 2", "rate = 2\n    calls = 0").replace(
        "y = self.one(x)", "Net.calls += 1; y = Net.calls"
    )
    counter = model_from(tmp_path, counting)
    before = describe_model(model).digest, describe_model(counter).digest
    for kind in (type(model), type(counter)):
        kind.calls = 1  # type: ignore[attr-defined]
    assert describe_model(model).digest != before[0]
    assert describe_model(counter).digest == before[1]


def test_a_class_defined_in_a_notebook_has_the_source_of_its_cell():
    text = "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return x\n"
    cell = "<cell 1 of a notebook>"
    linecache.cache[cell] = len(text), None, text.splitlines(keepends=True), cell
    made: dict[str, type[nn.Module]] = {}
    exec(compile(text, cell, "exec"), made)
    assert list(describe_model(made["Net"]()).sources.values()) == [True]
