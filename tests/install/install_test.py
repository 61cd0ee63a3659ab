"""What `cmake --install` leaves, as an outside project uses it: by find_package, by pkg-config, and the sources by add_subdirectory."""
import os
import re
import subprocess
import tempfile
import unittest

CMAKE = os.environ["STORE_CMAKE"]
BUILD = os.environ["STORE_BUILD_DIR"]
SOURCE = os.environ["STORE_SOURCE_DIR"]

CXX = r"""#include <cstdio>
#include <store/store.hpp>
int main(int, char** argv) {
  store::Store db = store::Store::open(argv[1]);
  db.put("greeting", "hello");
  std::printf("%s\n", db.get("greeting")->c_str());
}
"""
C = r"""#include <stdio.h>
#include <store/store.h>
int main(int argc, char** argv) {
  store_options options;
  store_db* db = NULL;
  void* value = NULL;
  size_t size = 0;
  (void)argc;
  store_options_init(&options);
  if (store_open(argv[1], &options, &db) != STORE_OK) return 1;
  if (store_get(db, "greeting", 8, &value, &size) != STORE_OK) return 2;
  printf("%.*s\n", (int)size, (const char*)value);
  store_free(value);
  return store_close(db) == STORE_OK ? 0 : 3;
}
"""
with open(os.path.join(SOURCE, "docs", "getting-started.md")) as page:
    FIND = re.search(r"(?ms)^```cmake\n(.*?)^```$", page.read())[1]
FIND = FIND.replace("find_package(store", "find_package(store @VERSION@") + """enable_language(C)
add_executable(c main.c)
target_link_libraries(c PRIVATE store::c)
"""
SUBDIRECTORY = """cmake_minimum_required(VERSION 3.25)
project(outside LANGUAGES CXX)
add_subdirectory("@SOURCE@" store)
add_executable(cxx main.cpp)
target_link_libraries(cxx PRIVATE store::store)
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout[-5000:]}{done.stderr[-5000:]}")
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.stage = os.path.join(cls.folder.name, "stage")
        run(CMAKE, "--install", BUILD, "--prefix", cls.stage)
        cls.library = next(os.path.join(cls.stage, path) for path in ("lib", "lib64", "lib/x86_64-linux-gnu")
                           if os.path.exists(os.path.join(cls.stage, path, "libstore.so")))
        cls.version = run(os.path.join(cls.stage, "bin", "store"), "--version").split()[-1]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def project(self, name, lists):
        folder = os.path.join(self.folder.name, name)
        os.mkdir(folder)
        for file, text in (("CMakeLists.txt", lists), ("main.cpp", CXX), ("main.c", C)):
            with open(os.path.join(folder, file), "w") as out:
                out.write(text)
        return folder

    def hello(self, program, folder, environment=None):
        self.assertEqual(run(program, os.path.join(folder, "db"), env={**os.environ, **(environment or {})}), "hello\n")

    def test_find_package(self):
        folder = self.project("found", FIND.replace("@VERSION@", self.version))
        run(CMAKE, "-S", folder, "-B", folder + "/build", f"-DCMAKE_PREFIX_PATH={self.stage}")
        run(CMAKE, "--build", folder + "/build")
        self.hello(folder + "/build/app", folder)
        self.hello(folder + "/build/c", folder)

    def test_another_version_is_refused(self):
        folder = self.project("newer", FIND.replace("@VERSION@", "999.0"))
        refused = subprocess.run([CMAKE, "-S", folder, "-B", folder + "/build", f"-DCMAKE_PREFIX_PATH={self.stage}"],
                                 capture_output=True, text=True)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("999.0", refused.stderr)

    def test_pkg_config(self):
        folder = self.project("pkg", "")
        where = {"PKG_CONFIG_PATH": os.path.join(self.library, "pkgconfig")}

        def flags(name):
            return run("pkg-config", "--define-prefix", "--cflags", "--libs", name, env={**os.environ, **where}).split()

        run("g++", "-std=c++20", folder + "/main.cpp", "-o", folder + "/cxx", *flags("store-cxx"))
        run("gcc", "-std=c99", folder + "/main.c", "-o", folder + "/c", *flags("store"))
        self.hello(folder + "/cxx", folder)
        self.hello(folder + "/c", folder, {"LD_LIBRARY_PATH": self.library})

    def test_add_subdirectory(self):
        folder = self.project("sources", SUBDIRECTORY.replace("@SOURCE@", SOURCE))
        run(CMAKE, "-S", folder, "-B", folder + "/build", "-G", "Ninja", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
        run(CMAKE, "--build", folder + "/build", "--target", "cxx")
        self.hello(folder + "/build/cxx", folder)

    def test_man_pages_and_completions(self):
        """A page for each command, without a complaint of groff; bash completes commands, flags and files."""
        share = os.path.join(self.stage, "share")
        program = os.path.join(self.stage, "bin", "store")
        commands = run(program, "manual", "list").split()
        self.assertIn("reshard", commands)
        self.assertNotIn("manual", commands)
        pages = sorted(os.listdir(share + "/man/man1"))
        self.assertEqual(pages, sorted(["store.1"] + [f"store-{command}.1" for command in commands]))
        for page in pages:
            done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", os.path.join(share, "man/man1", page)],
                                  capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)
        text = re.sub(r".\x08", "", run("groff", "-man", "-Tascii", share + "/man/man1/store-create.1"))  # without overstrikes
        for words in ("SYNOPSIS", "--overwrite", "store create app.db"):
            self.assertIn(words, text)

        def completed(*words):
            script = (f"source {share}/bash-completion/completions/store; COMP_WORDS=({' '.join(words)}); "
                      f"COMP_CWORD={len(words) - 1}; _store; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
            return run("bash", "-c", script, cwd=self.stage).split()

        self.assertEqual(completed("store", "cr"), ["create"])
        self.assertEqual(completed("store", "create", "--ov"), ["--overwrite"])
        self.assertEqual(completed("store", "create", "bi"), ["bin"])
        for shell, file in (("zsh", "zsh/site-functions/_store"), ("fish", "fish/vendor_completions.d/store.fish")):
            run(shell, "-n", os.path.join(share, file))

    def test_nothing_but_the_public_is_installed(self):
        found = {os.path.relpath(os.path.join(path, name), self.stage) for path, _, names in os.walk(self.stage) for name in names}
        headers = {name for name in found if name.startswith("include/")}
        public = {os.path.relpath(os.path.join(path, name), SOURCE) for path, _, names in os.walk(SOURCE + "/include")
                  for name in names}
        self.assertEqual(headers, public)
        self.assertIn("bin/store", found)


if __name__ == "__main__":
    unittest.main()
