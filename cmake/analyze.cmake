# What gcc 12's -fanalyzer says that isn't so: file, target, warning. The
# analyzer loses track where it stands beside each; whatever else it finds
# fails the build of the preset `analyze`.
function(cellar_not_so FILE TARGET WARNING)
    set_property(SOURCE ${PROJECT_SOURCE_DIR}/${FILE}
        TARGET_DIRECTORY ${TARGET}
        APPEND PROPERTY COMPILE_OPTIONS -Wno-analyzer-${WARNING})
endfunction()

# cellar_spec_copy: own() puts a copy, or NULL, in the place of each borrowed
# string; the analyzer takes two of the places for one.
cellar_not_so(kernel/spec.c cellar_kernel double-free)
cellar_not_so(kernel/spec.c cellar_kernel malloc-leak)

# list_cell: cells[] is grown by realloc, and what the old array owned is not
# found again in the new one; cells is NULL only while count is 0.
cellar_not_so(kernel/cli/notebook.c cellar_cli double-free)
cellar_not_so(kernel/cli/notebook.c cellar_cli malloc-leak)
cellar_not_so(kernel/cli/notebook.c cellar_cli null-dereference)

# collect: the same with names->list[].
cellar_not_so(kernel/cli/cmd_stop.c cellar_cli malloc-leak)

# leaves: only input that is complete is looked at, and that has text.
cellar_not_so(kernel/cli/repl.c cellar_cli null-argument)
