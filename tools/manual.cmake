# Writes man pages and completions, as the program prints them, to where they are installed below OUT,
# which it empties first. With gzip they are where Debian's packages have them: compressed, and zsh's among those of vendors.
# cmake -DSTORE=program -DOUT=folder [-DGZIP=gzip] -P manual.cmake
file(REMOVE_RECURSE "${OUT}")
set(zsh_folder site-functions)
if(GZIP)
  set(zsh_folder vendor-completions)
endif()

function(print_to file)
  get_filename_component(folder "${OUT}/${file}" DIRECTORY)
  file(MAKE_DIRECTORY "${folder}")
  execute_process(COMMAND "${STORE}" manual ${ARGN} OUTPUT_FILE "${OUT}/${file}" COMMAND_ERROR_IS_FATAL ANY)
endfunction()

print_to(man/man1/store.1 man)
execute_process(COMMAND "${STORE}" manual list OUTPUT_VARIABLE commands COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" commands "${commands}")
foreach(command IN LISTS commands)
  print_to(man/man1/store-${command}.1 man ${command})
endforeach()
print_to(bash-completion/completions/store bash)
print_to(zsh/${zsh_folder}/_store zsh)
print_to(fish/vendor_completions.d/store.fish fish)
if(GZIP)
  file(GLOB pages "${OUT}/man/man1/*.1")
  execute_process(COMMAND "${GZIP}" -9n ${pages} COMMAND_ERROR_IS_FATAL ANY)
endif()
