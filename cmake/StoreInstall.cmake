# What `cmake --install` puts where: the headers, the libraries for C++ and C, static and shared, the command, and what
# find_package(store) and pkg-config read.
include(CMakePackageConfigHelpers)

install(TARGETS store_static store_shared EXPORT store-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cxx NAMELINK_COMPONENT dev)
if(STORE_BUILD_CAPI)
  set_target_properties(store_c PROPERTIES EXPORT_NAME c)
  install(TARGETS store_c store_c_static EXPORT store-targets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT c NAMELINK_COMPONENT dev)
endif()
install(EXPORT store-targets NAMESPACE store:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/store COMPONENT dev)
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")

configure_package_config_file(cmake/storeConfig.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/storeConfig.cmake"
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/store)
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/storeConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/storeConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/storeConfigVersion.cmake"
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/store COMPONENT dev)

set(pc_files store-cxx.pc)
if(STORE_BUILD_CAPI)
  list(APPEND pc_files store.pc)
endif()
foreach(file IN LISTS pc_files)
  configure_file(cmake/${file}.in "${CMAKE_CURRENT_BINARY_DIR}/${file}" @ONLY)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/${file}" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)
endforeach()

if(STORE_BUILD_TOOLS)
  install(TARGETS store_tool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tool)
  install(DIRECTORY "${STORE_MANUAL}/" DESTINATION ${CMAKE_INSTALL_DATADIR} COMPONENT tool)
endif()
