# `cmake --install`: the headers, both libraries, what pkg-config and CMake
# need to find them, the manual, and the runtime image's files. The command
# installs itself (kernel/cli).
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/Cellar)
set(generated ${PROJECT_BINARY_DIR}/generated)

install(DIRECTORY include/cellar DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
# Agent and relay are unreadable only in the image: whoever may use the engine
# may build one from here.
install(DIRECTORY ${PROJECT_BINARY_DIR}/share/cellar
        DESTINATION ${CMAKE_INSTALL_DATADIR} USE_SOURCE_PERMISSIONS
        REGEX "/(agent|relay)$" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE
            GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

set_target_properties(cellar_shared PROPERTIES EXPORT_NAME cellar)
install(TARGETS cellar_shared EXPORT shared)
install(TARGETS cellar_static EXPORT static)
install(EXPORT shared NAMESPACE Cellar:: DESTINATION ${package}
        FILE CellarSharedTargets.cmake)
install(EXPORT static NAMESPACE Cellar:: DESTINATION ${package}
        FILE CellarStaticTargets.cmake)
configure_package_config_file(cmake/CellarConfig.cmake.in
    ${generated}/CellarConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${generated}/CellarConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${generated}/CellarConfig.cmake
        ${generated}/CellarConfigVersion.cmake DESTINATION ${package})

# One for each library: `pkg-config --static` would want a static libcurl and
# all that it is made of.
file(RELATIVE_PATH prefix_from_pc
    /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
set(pc_name cellar)
set(pc_kind shared)
set(pc_libs "-L\${libdir} -lcellar")
configure_file(cmake/cellar.pc.in ${generated}/cellar.pc @ONLY)
set(pc_name cellar-static)
set(pc_kind static)
set(pc_libs "\${libdir}/libcellar.a -lcurl -ljansson -luv -lsqlite3 -lsodium -lmsgpackc")
configure_file(cmake/cellar.pc.in ${generated}/cellar-static.pc @ONLY)
install(FILES ${generated}/cellar.pc ${generated}/cellar-static.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The library's manual is its headers, the command's is its --help, printed.
set(headers include/cellar/cellar.h include/cellar/history.h
    include/cellar/ending.h include/cellar/error.h)
list(TRANSFORM headers PREPEND ${PROJECT_SOURCE_DIR}/)
set(man ${PROJECT_BINARY_DIR}/man)
file(MAKE_DIRECTORY ${man})
add_custom_command(OUTPUT ${man}/cellar.3
    COMMAND awk -v version=${PROJECT_VERSION}
        -f ${PROJECT_SOURCE_DIR}/cmake/man3.awk ${headers} > ${man}/cellar.3
    DEPENDS ${headers} cmake/man3.awk VERBATIM)
add_custom_command(OUTPUT ${man}/cellar.1
    COMMAND ${PROJECT_SOURCE_DIR}/cmake/man1.sh $<TARGET_FILE:cellar>
        > ${man}/cellar.1
    DEPENDS cellar cmake/man1.sh cmake/man1.awk VERBATIM)
add_custom_target(man ALL DEPENDS ${man}/cellar.1 ${man}/cellar.3)
foreach(section 1 3)
    install(FILES ${man}/cellar.${section}
            DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
