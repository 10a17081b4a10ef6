"""Imports in a pickle that no model needs. A tripwire, not a proof: what is not listed here is not thereby harmless."""

from __future__ import annotations

_MODULES = frozenset(
    [
        "os",
        "posix",
        "nt",
        "subprocess",
        "_posixsubprocess",
        "sys",
        "socket",
        "_socket",
        "shutil",
        "pty",
        "ctypes",
        "_ctypes",
        "runpy",
        "importlib",
        "_frozen_importlib",
        "imp",
        "pip",
        "webbrowser",
        "code",
        "codeop",
        "commands",
        "pdb",
        "bdb",
        "trace",
        "timeit",
        "cProfile",
        "profile",
        "multiprocessing",
        "asyncio",
        "http",
        "urllib",
        "urllib2",
        "urllib3",
        "requests",
        "httpx",
        "aiohttp",
        "ftplib",
        "smtplib",
        "telnetlib",
        "signal",
        "pkgutil",
        "zipimport",
        "venv",
        "ensurepip",
        "distutils",
        "setuptools",
        "idlelib",
        "lib2to3",
        "doctest",
        "unittest",
        "test",
        "gc",
        "inspect",
        "threading",
        "_thread",
        "concurrent",
        "select",
        "selectors",
        "ssl",
        "xmlrpc",
        "logging",
        "sqlite3",
        "fileinput",
        "glob",
        "linecache",
        "tempfile",
        "pydoc",
        "site",
        "sysconfig",
        "shelve",
        "dill",
        "marshal",
        "pickle",
        "_pickle",
        "cPickle",
        "torch.serialization",
        "torch.hub",
        "torch.utils.cpp_extension",
        "numpy.testing",
        "numpy.f2py",
        "numpy.distutils",
        "mlflow",
        "IPython",
        "django",
        "celery",
    ]
)
_NAMES = frozenset(
    [
        "builtins.eval",
        "builtins.exec",
        "builtins.compile",
        "builtins.__import__",
        "builtins.open",
        "builtins.input",
        "builtins.breakpoint",
        "builtins.globals",
        "builtins.locals",
        "builtins.vars",
        "builtins.setattr",
        "builtins.delattr",
        "builtins.exit",
        "builtins.quit",
        "io.open",
        "io.FileIO",
        "_io.open",
        "_io.FileIO",
        "codecs.open",
        "pathlib.Path.write_text",
        "operator.methodcaller",
        "joblib.load",
        "joblib.numpy_pickle.load",
        "pandas.read_pickle",
        "pandas.io.pickle.read_pickle",
        "numpy.load",
        "numpy.fromfile",
        "numpy.memmap",
        "numpy.lib.npyio.load",
        "numpy.lib._npyio_impl.load",
        "torch.load",
        "cloudpickle.load",
        "cloudpickle.loads",
        "cloudpickle.cloudpickle.load",
        "cloudpickle.cloudpickle.loads",
        "types.FunctionType",
    ]
)
# What cloudpickle writes for a function or class of a notebook: its compiled code travels inside the pickle.
_CODE = frozenset(
    [
        "types.CodeType",
        "builtins.code",
        "cloudpickle.cloudpickle._make_function",
        "cloudpickle.cloudpickle._make_skel_func",
        "cloudpickle.cloudpickle._builtin_type",
        "cloudpickle.cloudpickle._make_skeleton_class",
    ]
)


def is_dangerous(name: str) -> bool:
    """Whether ``module.name`` reaches files, processes, the network or the interpreter.

    >>> is_dangerous("posix.system"), is_dangerous("sklearn.linear_model._logistic.LogisticRegression")
    (True, False)
    """
    name = name.replace("__builtin__.", "builtins.", 1) if name.startswith("__builtin__.") else name
    parts = name.split(".")
    return name in _NAMES or any(".".join(parts[:size]) in _MODULES for size in range(1, len(parts) + 1))


def carries_code(name: str) -> bool:
    """Whether the import rebuilds a function from compiled code, which a list of imports cannot look into."""
    return name in _CODE
