# Reads cmake/layers.txt, the one list of layers and of the edges allowed between them.
set(STORE_LAYERS "")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/layers.txt")
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/layers.txt" _lines REGEX "^[a-z]")
foreach(_line IN LISTS _lines)
  string(REGEX MATCH "^([a-z]+): *src/([^ ]+)[^|]*\\|(.*)$" _ "${_line}")
  set(_name ${CMAKE_MATCH_1})
  set(STORE_LAYER_DIR_${_name} ${CMAKE_MATCH_2})
  string(REGEX REPLACE "([a-z]+)" "store_\\1" _deps "${CMAKE_MATCH_3}")
  separate_arguments(STORE_LAYER_DEPS_${_name} UNIX_COMMAND "${_deps}")
  list(APPEND STORE_LAYERS ${_name})
endforeach()

# store_layer(NAME source...): the static library store_NAME, linked with the layers that the table allows it.
function(store_layer name)
  add_library(store_${name} STATIC ${ARGN})
  set_target_properties(store_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF)
  target_include_directories(store_${name}
    PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
    PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_compile_features(store_${name} PUBLIC cxx_std_20)
  target_link_libraries(store_${name} PUBLIC ${STORE_LAYER_DEPS_${name}}
    PRIVATE $<BUILD_INTERFACE:store_build_settings>)
endfunction()

# store_test(NAME SOURCES file... LINK target...): one GoogleTest program, registered test by test.
function(store_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK;LABELS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gmock GTest::gtest store_test_main store_build_settings)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 600)
endfunction()
