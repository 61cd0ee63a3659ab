# The libraries that programs link, made of the objects of the layers:
#
# store_layers   every layer but the C API as an archive of its own; for what is built here and uses internals
# store::static  libstore-cxx.a, the same as one archive; for others
# store::shared  libstore-cxx.so, the same; its ABI is that of one minor version, so that its SONAME has both numbers
# store::store   the engine for C++: of this build the layers, or the shared library where BUILD_SHARED_LIBS asks for it
# store::c       libstore.so, all layers, which exports the C API alone (src/store/capi); store::c_static is libstore.a, beside libstore-cxx.a
option(BUILD_SHARED_LIBS "store::store is libstore-cxx.so" OFF)

add_library(store_layers INTERFACE)
set(objects "")
foreach(layer IN LISTS STORE_LAYERS)
  if(NOT layer STREQUAL capi)
    target_link_libraries(store_layers INTERFACE store_${layer})
    list(APPEND objects $<TARGET_OBJECTS:store_${layer}>)
  endif()
endforeach()

# store_cxx(target kind): the objects as one library. Its dependencies are private, for no public header shows them.
function(store_cxx target kind)
  add_library(${target} ${kind} ${objects})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME store-cxx LINKER_LANGUAGE CXX)
  target_compile_features(${target} INTERFACE cxx_std_20)
  target_include_directories(${target} INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
    "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  target_link_libraries(${target} PUBLIC Threads::Threads
    PRIVATE fmt::fmt PkgConfig::LIBURING PkgConfig::ISAL $<BUILD_INTERFACE:store_build_settings>)
endfunction()

if(STORE_INSTALL)
  store_cxx(store_static STATIC)
  set_target_properties(store_static PROPERTIES EXPORT_NAME static)
endif()
if(STORE_INSTALL OR BUILD_SHARED_LIBS)
  store_cxx(store_shared SHARED)
  set_target_properties(store_shared PROPERTIES EXPORT_NAME shared
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  target_link_options(store_shared PRIVATE LINKER:-Bsymbolic-functions)  # it calls its own functions directly
  if(NOT STORE_SANITIZE)
    target_link_options(store_shared PRIVATE LINKER:-z,defs)  # a sanitizer's runtime comes with the program
  endif()
endif()
if(STORE_INSTALL AND STORE_BUILD_CAPI)
  add_library(store_c_static STATIC $<TARGET_OBJECTS:store_capi>)
  set_target_properties(store_c_static PROPERTIES EXPORT_NAME c_static OUTPUT_NAME store LINKER_LANGUAGE CXX)
  target_include_directories(store_c_static INTERFACE "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  target_link_libraries(store_c_static PRIVATE store_static)
endif()
unset(objects)

add_library(store INTERFACE)
add_library(store::store ALIAS store)
if(BUILD_SHARED_LIBS)
  target_link_libraries(store INTERFACE store_shared)
else()
  target_link_libraries(store INTERFACE store_layers)
endif()
