"""The stub of the package against the package: every public name is in both, of the module and of each class."""
import ast
import unittest
from pathlib import Path

import store

# What Python gives every class, or what stubs leave to `object` and `Exception`.
OF_EVERY_CLASS = {"__doc__", "__module__", "__new__", "__init__", "__dict__", "__weakref__", "__str__", "__hash__", "__slots__"}


def public(names):
    return {name for name in names if not name.startswith("_") or (name.startswith("__") and name.endswith("__"))}


class Stub(unittest.TestCase):
    def setUp(self):
        tree = ast.parse(Path(store.__file__).with_suffix(".pyi").read_text())
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self.functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}

    def test_the_module(self):
        self.assertEqual(set(self.classes) | set(self.functions), set(store.__all__))
        self.assertEqual({name for name in vars(store) if not name.startswith("_")} - {"Iterable", "Mapping", "atexit", "os", "weakref"}, set(store.__all__))

    def test_the_classes(self):
        for name, node in self.classes.items():
            with self.subTest(name):
                stubbed = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                self.assertEqual(public(vars(getattr(store, name))) - OF_EVERY_CLASS, stubbed - OF_EVERY_CLASS)

    def test_the_keywords_of_open(self):
        wanted = [(arg.arg, default is not None) for arg, default in zip(self.functions["open"].args.kwonlyargs,
                                                                        self.functions["open"].args.kw_defaults)]
        code = store.open.__code__
        names = code.co_varnames[code.co_argcount:code.co_argcount + code.co_kwonlyargcount]
        self.assertEqual([name for name, _ in wanted], list(names))

    def test_it_is_marked_as_typed(self):
        self.assertTrue(Path(store.__file__).with_name("py.typed").exists())


if __name__ == "__main__":
    unittest.main()
