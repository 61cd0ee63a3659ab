// libstore.so as a binding meets it: loaded by name, called by names.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <store/store.h>
#include <string>

#include "support/temp_dir.hpp"

namespace {

TEST(CapiDlopen, LoadsAndIsCalledByName) {
  const store::test::TempDir temp;
  void* library = ::dlopen(LIBSTORE, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << ::dlerror();
  const auto call = [library]<class Fn>(const char* name, Fn*) {
    void* found = ::dlsym(library, name);
    EXPECT_NE(found, nullptr) << name;
    return reinterpret_cast<Fn*>(found);
  };
#define CALL(name) call(#name, static_cast<decltype(&name)>(nullptr))
  store_db* db = nullptr;
  ASSERT_EQ(CALL(store_open)((temp.path() + "/db").c_str(), nullptr, &db), STORE_OK);
  EXPECT_EQ(CALL(store_put)(db, "key", 3, "value", 5), STORE_OK);
  void* value = nullptr;
  std::size_t len = 0;
  ASSERT_EQ(CALL(store_get)(db, "key", 3, &value, &len), STORE_OK);
  EXPECT_EQ(std::string_view(static_cast<const char*>(value), len), "value");
  CALL(store_free)(value);
  EXPECT_EQ(CALL(store_get)(nullptr, "key", 3, &value, &len), STORE_ERROR_INVALID_ARGUMENT);
  EXPECT_STRNE(CALL(store_last_error)(), "");
  EXPECT_EQ(CALL(store_close)(db), STORE_OK);
#undef CALL
  EXPECT_EQ(::dlclose(library), 0);
}

}  // namespace
