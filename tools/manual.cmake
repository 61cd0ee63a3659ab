# Writes man pages and completions, as the program prints them, to where they are installed below OUT.
# cmake -DSTORE=program -DOUT=folder -P manual.cmake
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
print_to(zsh/site-functions/_store zsh)
print_to(fish/vendor_completions.d/store.fish fish)
