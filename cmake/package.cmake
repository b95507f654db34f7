# Debian packages of this build, by `./dev package`: a package for each component of cmake/install.cmake.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME cairn)
set(CPACK_PACKAGE_VENDOR cairn)
set(CPACK_PACKAGE_CONTACT "the maintainers of cairn <maintainers@cairn.invalid>")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/package)
set(CPACK_COMPONENTS_ALL daemon tools python doc)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_STRIP_FILES ON)
# /etc and /lib are not below the prefix.
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS OFF)

# package(COMPONENT NAME DESCRIPTION [FIELD VALUE]...)
macro(package component name description)
  string(TOUPPER ${component} upper)
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name})
  set(CPACK_COMPONENT_${upper}_DESCRIPTION "${description}")
  set(fields ${ARGN})
  while(fields)
    list(POP_FRONT fields field value)
    set(CPACK_DEBIAN_${upper}_${field} "${value}")
  endwhile()
  install(FILES packaging/debian/copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} COMPONENT ${component})
  install_at_its_place(changelog/${name} ${component} ${CMAKE_SOURCE_DIR}/packaging/debian/changelog)
endmacro()

set(scripts ${CMAKE_SOURCE_DIR}/packaging/debian)
package(daemon cairnd
  "storage daemon: disk images, their jobs and exports
cairnd builds graphs of block nodes, exports them over NBD, and is told what
to do over QMP, with the commands of qemu-storage-daemon."
  PACKAGE_DEPENDS "adduser, init-system-helpers (>= 1.54~)"
  PACKAGE_RECOMMENDS "cairn-tools, libssl3, libnbd0, libcurl4, libseccomp2, libmicrohttpd12"
  PACKAGE_SUGGESTS "cairn-doc, qemu-utils")
set(CPACK_DEBIAN_DAEMON_PACKAGE_CONTROL_EXTRA
  ${scripts}/cairnd/postinst ${scripts}/cairnd/prerm ${scripts}/cairnd/postrm ${scripts}/cairnd/conffiles)
package(tools cairn-tools
  "command line client of the storage daemon cairnd
cairnctl talks to cairnd, and to whatever else speaks QMP; schemac is the
compiler of the schema."
  PACKAGE_SUGGESTS "cairnd, cairn-doc")
package(python python3-cairn
  "Python client of the storage daemon cairnd, and an agent for backups
A method with type hints for each command, asyncio; and cairn_backup, which
makes incremental backups over NBD."
  PACKAGE_DEPENDS "python3 (>= 3.10)"
  PACKAGE_RECOMMENDS python3-libnbd
  PACKAGE_ARCHITECTURE all
  PACKAGE_SECTION python
  PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA ${scripts}/python3-cairn/postinst ${scripts}/python3-cairn/prerm)
package(doc cairn-doc
  "documentation of the storage daemon cairnd
How-to pages and the reference of all commands, events and types."
  PACKAGE_ARCHITECTURE all
  PACKAGE_SECTION doc
  PACKAGE_SHLIBDEPS OFF)

include(CPack)
