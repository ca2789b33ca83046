const { expect } = require("chai");
const { loadFixture } = require("@nomicfoundation/hardhat-network-helpers");
const { ethers } = require("hardhat");
const { DAY, id, now, running } = require("./support");

describe("SharingGrants", () => {
  async function granted() {
    const world = await running();
    const grants = await ethers.deployContract("SharingGrants", [world.consortium]);
    const start = await now();
    const terms = {
      grantee: id("urban"),
      validFrom: start,
      validTo: start + DAY,
      perDay: 10,
      recordTypes: [id("inspection.finding")],
      units: [id("subject")],
      purposes: [id("joint-inspection")],
      caseKinds: [id("construction-waste")],
    };
    const owner = grants.connect(world.departments.fire.governor);
    await owner.grant(id("fire"), terms);
    const request = {
      grantee: id("urban"),
      recordType: id("inspection.finding"),
      unit: id("subject"),
      purpose: id("joint-inspection"),
      caseKind: id("construction-waste"),
      time: start,
    };
    return { ...world, grants, owner, terms, request };
  }

  it("permits what is named and nothing else", async () => {
    const { grants, request, terms } = await loadFixture(granted);
    expect(await grants.permits(0, request)).to.equal(true);
    for (const field of ["grantee", "recordType", "unit", "purpose", "caseKind"]) {
      expect(await grants.permits(0, { ...request, [field]: id("other") }), field).to.equal(false);
    }
    expect(await grants.permits(0, { ...request, time: terms.validTo })).to.equal(false);
  });

  it("is granted and revoked by the owner alone", async () => {
    const { grants, departments, terms, deployer } = await loadFixture(granted);
    for (const account of [departments.urban.governor, deployer]) {
      const other = grants.connect(account);
      await expect(other.grant(id("fire"), terms))
        .to.be.revertedWithCustomError(grants, "SharingGrantsUnauthorised")
        .withArgs(id("fire"), account.address);
      await expect(other.revoke(0)).to.be.revertedWithCustomError(grants, "SharingGrantsUnauthorised");
    }
  });

  it("keeps a revoked grant's history", async () => {
    const { grants, owner, request } = await loadFixture(granted);
    await expect(owner.revoke(0)).to.emit(grants, "Revoked");
    expect(await grants.permits(0, request)).to.equal(true);
    expect(await grants.permits(0, { ...request, time: await now() })).to.equal(false);
    await expect(owner.revoke(0)).to.be.revertedWithCustomError(grants, "SharingGrantsAlreadyRevoked");
  });
});
